"""Constraints: what llguidance accepts, in the version that serves, and what is refused."""

import json

import pytest

from gateway.errors import ApiError
from gateway.text import constraint, llama_grammar
from gateway.text.tool_syntax import ToolSyntax, find
from testing import needs

SYNTAX = ToolSyntax("<tool_call>\n", "\n</tool_call>")
CITY = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}}


@pytest.fixture(autouse=True)
def library():
    needs.package("xllamacpp")


def test_a_grammar_is_compiled_and_its_fault_named():
    assert llama_grammar.fault("%llguidance {}\nstart: %json {}\n") is None
    assert "Expected token" in llama_grammar.fault("%llguidance {}\nstart: (((\n")
    pattern = llama_grammar.fault('%llguidance {}\nstart: %json {"type": "string", "pattern": "(("}\n')
    assert pattern.endswith("regex parse error: unclosed group")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("answer", [None, {"type": "object"}], ids=["text", "object"])
async def test_every_kind_of_constraint_compiles(begun, parallel, answer):
    schema = constraint.call_schema({"f": CITY, "g": CITY}, SYNTAX)
    made = constraint.calls(schema, SYNTAX, parallel=parallel, strict=False, begun=begun, answer=answer)
    await constraint.verify(made)
    assert (made.schema is not None) == begun
    assert made.required == (begun or answer is not None)


def test_references_point_to_their_new_place():
    schema = constraint.call_schema({"f": {"type": "object"}, "g": CITY}, SYNTAX)
    assert schema["$defs"]["1"]["properties"]["a"] == {"$ref": "#/$defs/1/$defs/a"}
    assert schema["$defs"]["1"]["$defs"]["a"] == {"type": "string"}


def test_together_schemas_are_bounded():
    large = {"type": "object", "description": "x" * 40_000}
    schema = constraint.call_schema({"f": large, "g": large}, SYNTAX)
    with pytest.raises(ApiError, match="together"):
        constraint.calls(schema, SYNTAX, parallel=True, strict=False, begun=True, answer=None)


async def test_what_cannot_be_enforced_is_left_out_unless_strict():
    unique = {"type": "array", "uniqueItems": True}
    await constraint.verify(constraint.answer(unique, strict=False))
    with pytest.raises(ApiError, match="uniqueItems"):
        await constraint.verify(constraint.answer(unique, strict=True))


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("<tool_call>\n{}\n</tool_call>", SYNTAX),
        ("<call>{}</call>", ToolSyntax("<call>", "</call>")),
        ("{}", None),
        ("<a>{}</b>", None),
    ],
)
def test_a_syntax_is_found_in_what_a_template_writes(call, expected):
    def render(turns, tools):
        calls = [each["function"] for turn in turns for each in turn.get("tool_calls", ())]
        return json.dumps(tools) + "".join(call.replace("{}", json.dumps(each)) for each in calls) + "<end>"

    assert find(render) == expected
    assert find(lambda turns, tools: render(turns, [])) is None


def test_other_names_of_members_are_found():
    def render(turns, tools):
        calls = [each["function"] for turn in turns for each in turn.get("tool_calls", ())]
        written = [{"tool": each["name"], "parameters": each["arguments"]} for each in calls]
        return json.dumps(tools) + "".join(f"<c>{json.dumps(each)}</c>" for each in written)

    assert find(render) == ToolSyntax("<c>", "</c>", "tool", "parameters")
