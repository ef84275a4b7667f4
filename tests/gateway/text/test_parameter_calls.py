"""Calls with an element for each parameter: JSON from text, in pieces, broken, cut."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text.parameter_calls import ParameterCallReader
from gateway.text.tool_calls import CallArguments, CallStart
from gateway.text.tool_syntax import ToolSyntax
from tests.gateway.text import call_parts

SYNTAX = ToolSyntax("<tool_call>\n", "\n</tool_call>", form="parameters")
EDIT = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "text": {"$ref": "#/$defs/text"},
        "line": {"type": "integer"},
        "share": {"type": "number"},
        "force": {"type": "boolean"},
        "tags": {"type": "array"},
        "more": {"type": "object"},
        "either": {"type": ["string", "integer"]},
        "unit": {"enum": ["1", "2"]},
        "open": {},
    },
    "$defs": {"text": {"type": "string"}},
}
FUNCTIONS = {"edit": EDIT, "g.h": {"type": "object"}}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda t: "</parameter>" not in t
)


def call(name: str, **parameters: str) -> str:
    members = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters.items())
    return f"<tool_call>\n<function={name}>\n{members}</function>\n</tool_call>"


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


def read(parts: list[str], **options) -> tuple[str, list[tuple[str, str]]]:
    reader = ParameterCallReader(SYNTAX, FUNCTIONS, **options)
    text, calls, _ = call_parts.read(reader, parts)
    return text, calls


@given(path=TEXTS, text=TEXTS, line=st.integers(), cuts=st.lists(st.integers(0)))
def test_strings_of_any_text_come_back_as_they_were_however_they_are_cut(path, text, line, cuts):
    written = "Well: " + call("edit", path=path, text=text, line=str(line)) + "\n" + call("g.h")
    content, calls = read(pieces(written, cuts))
    assert content == "Well:"
    assert [name for name, _ in calls] == ["edit", "g.h"]
    assert json.loads(calls[0][1]) == {"path": path, "text": text, "line": line}
    assert calls[1][1] == "{}"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("line", "5", 5),
        ("line", " 5 ", 5),
        ("line", "five", "five"),
        ("share", "5", 5),
        ("share", "1e999", "1e999"),
        ("share", "NaN", "NaN"),
        ("force", "True", True),
        ("force", "false", False),
        ("tags", '["a", {"b": "\\"</x>"}]', ["a", {"b": '"</x>'}]),
        ("more", '{"a": {"b": null}}', {"a": {"b": None}}),
        ("more", "[" * 100_000, "[" * 100_000),
        ("path", "5", "5"),
        ("path", "True", "True"),
        ("path", '{"a": 1}', '{"a": 1}'),
        ("path", "", ""),
        ("path", "\n a \n", "\n a \n"),
        ("text", 'a "b" \\ \t </parameter <parameter=x>', 'a "b" \\ \t </parameter <parameter=x>'),
        ("either", "5", 5),
        ("either", "five", "five"),
        ("either", "[5]", "[5]"),
        ("unit", "1", "1"),
        ("open", "[1]", [1]),
        ("open", "x", "x"),
        ("unknown", "x", "x"),
    ],
)
def test_a_value_has_the_type_of_its_schema_where_it_can(key, text, value):
    assert json.loads(read(list(call("edit", **{key: text})))[1][0][1]) == {key: value}


def test_strings_are_sent_as_they_come_and_other_values_whole():
    reader = ParameterCallReader(SYNTAX, FUNCTIONS)
    assert reader.push("<tool_call>\n<function=edit>\n<parameter=pa") == [CallStart(0, "edit")]
    assert reader.push('th>\nsrc/"') == [CallArguments(0, '{"path": "'), CallArguments(0, 'src/\\"')]
    assert reader.push("a.py\n</para") == [CallArguments(0, "a.py")]
    assert reader.push("meter>\n<parameter=line>\n1") == [CallArguments(0, '"')]
    assert reader.push("2\n</parameter>\n") == [CallArguments(0, ', "line": 12')]
    assert reader.push("</function>\n</tool_call>") == [CallArguments(0, "}")]
    assert reader.end() == []


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nnot a function\n</tool_call>",
        "<tool_call>\n<function=unknown>\n</function>\n</tool_call>",
        "<function=unknown>",
        "<function=" + "x" * 400,
        "<tool_call>\n<func",
        "<tool_call>",
        "a < b and <b>",
    ],
)
def test_what_is_no_call_stays_text(text):
    assert read(list(text)) == (text, [])
    assert read([text]) == (text, [])


def test_a_call_without_its_outer_tag_is_one():
    text = call("edit", path="a").removeprefix("<tool_call>\n")
    assert read(list(f"Now:\n{text}\nDone")) == ("Now:Done", [("edit", '{"path": "a"}')])


def test_two_calls_and_only_the_first_of_them():
    text = call("edit", path="a") + "\n" + call("edit", path="b")
    assert [arguments for _, arguments in read(list(text))[1]] == ['{"path": "a"}', '{"path": "b"}']
    assert read(list(text), single=True)[1] == [("edit", '{"path": "a"}')]


def test_a_begun_call_needs_no_tag():
    assert read([call("g.h").removeprefix("<tool_call>\n")], begun=True) == ("", [("g.h", "{}")])


def test_a_cut_call_keeps_what_it_has():
    text = call("edit", path="a long path", line="12")
    assert read([text[: text.index(" path")]])[1] == [("edit", '{"path": "a long')]
    assert read([text[: text.index("12")]])[1] == [("edit", '{"path": "a long path"')]


def test_a_repeated_parameter_counts_once_and_what_stands_between_is_dropped():
    text = (
        "<tool_call><function=edit> x <parameter=path>a</parameter> <y> <parameter=path>b</parameter>"
        "<parameter=line>1</parameter></function></tool_call>"
    )
    assert read(list(text)) == ("", [("edit", '{"path": "a", "line": 1}')])


@given(
    parts=st.lists(
        st.sampled_from(
            [
                "<tool_call>", "</tool_call>", "<function=", "edit>", "x>", "</function>", "<parameter=",
                "path>", "line>", "</parameter>", "\n", " ", "<", "1", '"', "é",
            ]
        )
    ),
    cuts=st.lists(st.integers(0)),
)  # fmt: skip
def test_broken_calls_give_the_same_however_they_are_cut(parts, cuts):
    text = "".join(parts)
    assert read(pieces(text, cuts)) == read([text])
