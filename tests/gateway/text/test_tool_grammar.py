"""Grammars of tool calls: every syntax compiles in the version that serves, and what cannot be enforced is refused."""

from collections.abc import Mapping

import pytest

from gateway.errors import ApiError
from gateway.text.constraint import verify
from gateway.text.tool_grammar import Calls, call_schema
from gateway.text.tool_syntax import ToolSyntax
from testing import needs

SYNTAXES = {
    "object": ToolSyntax("<tool_call>\n", "\n</tool_call>"),
    "controls": ToolSyntax("<c>\n", "\n</c>", tokens={"<c>": 150_000, "</c>": 150_001}),
    "bare": ToolSyntax("", "", optional="<|python_tag|>", tokens={"<|python_tag|>": 128_010}),
    "list": ToolSyntax("[TOOL_CALLS] ", "", form="list", tokens={"[TOOL_CALLS]": 5}),
    "named": ToolSyntax("[CALLS]", "", form="named", separator="[ARGS]", tokens={"[CALLS]": 9, "[ARGS]": 32}),
    "parameters": ToolSyntax("<tool_call>\n", "\n</tool_call>", form="parameters"),
}
CITY = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}}
MANY = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "unit": {"enum": ["°C", 'a "b"']},
        "count": {"type": ["integer", "null"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "copy": {"type": "array", "items": {"$ref": "#/properties/count"}},
    },
    "required": ["text", "count"],
}


@pytest.fixture(autouse=True)
def library():
    needs.package("xllamacpp")


def calls(functions: Mapping[str, dict], syntax: ToolSyntax, **changes) -> Calls:
    options = {"parallel": True, "strict": False, "begun": False, "answer": None}
    return Calls(functions, syntax, **options | changes)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("answer", [None, {"type": "object"}], ids=["text", "object"])
@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
async def test_every_kind_of_constraint_compiles(syntax, begun, parallel, answer):
    functions = {"f": CITY, "g": MANY, "h.i": {"type": "object"}}
    made = calls(functions, syntax, parallel=parallel, begun=begun, answer=answer).constraint()
    await verify(made)
    assert (made.schema is not None) == (begun and syntax.form in {"object", "list"})
    assert made.required == (begun or answer is not None)


@pytest.mark.parametrize("syntax", [SYNTAXES["controls"], SYNTAXES["list"], SYNTAXES["named"]])
def test_a_tag_that_is_a_control_token_is_in_the_grammar_by_its_id(syntax):
    made = calls({"f": CITY}, syntax).constraint()
    for tag, token in syntax.tokens.items():
        assert f"<[{token}]>" in made.grammar
        assert tag not in made.grammar


def test_references_point_to_their_new_place():
    schema = call_schema({"f": {"type": "object"}, "g": CITY}, SYNTAXES["object"])
    assert schema["$defs"]["1"]["properties"]["a"] == {"$ref": "#/$defs/1/$defs/a"}
    assert schema["$defs"]["1"]["$defs"]["a"] == {"type": "string"}


def test_together_schemas_are_bounded():
    large = {"type": "object", "description": "x" * 40_000}
    with pytest.raises(ApiError, match="together"):
        calls({"f": large, "g": large}, SYNTAXES["object"]).constraint()


def test_a_text_without_quotes_cannot_be_held_to_a_pattern():
    parameters = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x$"}}}
    calls({"f": parameters}, SYNTAXES["parameters"]).constraint()
    with pytest.raises(ApiError, match="pattern cannot be enforced"):
        calls({"f": parameters}, SYNTAXES["parameters"], strict=True).constraint()


@pytest.mark.parametrize("name", ["a>b", "a\nb", "<", "x" * 300])
def test_a_parameter_that_breaks_its_tag_is_refused(name):
    parameters = {"type": "object", "properties": {name: {"type": "string"}}}
    with pytest.raises(ApiError, match="cannot be written in a tag"):
        calls({"f": parameters}, SYNTAXES["parameters"]).constraint()
