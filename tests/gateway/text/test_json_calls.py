"""Tool calls in a model's text: whole, in pieces, several, broken, cut."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text.json_calls import JsonCallReader
from gateway.text.tool_calls import CallArguments, CallStart, Content
from gateway.text.tool_syntax import ToolSyntax
from tests.gateway.text import call_parts

SYNTAX = ToolSyntax("<tool_call>\n", "\n</tool_call>")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(), VALUES, max_size=4)
CALLS = st.lists(st.tuples(st.sampled_from(["f", "g.h"]), ARGUMENTS), max_size=3)


def written(name: str, arguments: object) -> str:
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


def read(
    parts: list[str], *, syntax: ToolSyntax = SYNTAX, **options
) -> tuple[str, list[tuple[str, str]], list]:
    reader = JsonCallReader(syntax, ["f", "g.h"], **options)
    text, calls, sent = call_parts.read(reader, parts)
    # The last call may be cut, and those after a single one are dropped.
    assert len(calls) - reader.calls in {0, 1} or options.get("single") or syntax.single
    return text, calls, sent


@given(
    before=st.text(alphabet=st.characters(exclude_characters="<")), calls=CALLS, cuts=st.lists(st.integers(0))
)
def test_calls_are_read_however_the_text_is_cut(before, calls, cuts):
    text = before + "\n".join(written(*call) for call in calls)
    content, found, _ = read(pieces(text, cuts))
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert content == (before.rstrip() if calls else before)


@given(text=st.text(alphabet='<>/_tolca {}"\\:,f\n') | st.text(), cuts=st.lists(st.integers(0)))
def test_text_without_a_call_passes_unchanged_however_it_is_cut(text, cuts):
    content, calls, _ = read(pieces(text, cuts))
    assert calls == []
    assert content == text


@given(
    text=st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "\n",
                " ",
                '{"name": "f", "arguments": ',
                "{",
                "}",
                '"',
                "\\",
                "a<",
                "é",
            ]
        )
    ).map("".join),
    cuts=st.lists(st.integers(0)),
    bare=st.booleans(),
)
def test_broken_calls_give_the_same_however_they_are_cut(text, cuts, bare):
    reader = JsonCallReader(SYNTAX, ["f"], bare=bare)
    whole = reader.push(text) + reader.end()

    def joined(parts):
        text = "".join(part.text for part in parts if isinstance(part, Content))
        names = [part for part in parts if isinstance(part, CallStart)]
        arguments: dict[int, str] = {}
        for part in parts:
            if isinstance(part, CallArguments):
                arguments[part.index] = arguments.get(part.index, "") + part.text
        return text, names, arguments

    other = JsonCallReader(SYNTAX, ["f"], bare=bare)
    assert joined([p for piece in pieces(text, cuts) for p in other.push(piece)] + other.end()) == joined(
        whole
    )


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\nnot JSON\n</tool_call>",
        '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "f", "arguments": [1]}\n</tool_call>',
        '<tool_call>\n{"name": 5, "arguments": {}}\n</tool_call> and more',
        "<tool_call>\n[]\n</tool_call>",
        "<tool_call>\n" + "[" * 100_000 + "\n</tool_call>",
        '<tool_call>\n{"name": "f',
    ],
)
def test_what_is_no_call_stays_text(text):
    assert read([text]) == (text, [], read([text])[2])


def test_the_name_comes_before_the_arguments_and_these_in_pieces():
    text = written("f", {"city": "Paris"})
    cut = text.index("Par") + 3
    reader = JsonCallReader(SYNTAX, ["f"])
    assert reader.push(text[:20]) == []
    assert reader.push(text[20:cut]) == [CallStart(0, "f"), CallArguments(0, '{"city": "Par')]
    assert reader.push(text[cut:]) == [CallArguments(0, 'is"}')]
    assert reader.end() == []


def test_members_in_the_other_order_are_a_call():
    text = '<tool_call>{"arguments": {"a": "é"}, "name": "f"}</tool_call>'
    assert read(list(text))[:2] == ("", [("f", '{"a": "é"}')])


def test_a_cut_call_keeps_what_it_has():
    text = written("f", {"city": "Paris"})
    assert read([text[: text.index("Paris")]], single=True)[:2] == ("", [("f", '{"city": "')])


def test_a_begun_call_needs_no_tag():
    assert read(['{"name": "f", "arguments": {}}'], begun=True)[:2] == ("", [("f", "{}")])


def test_a_single_call_is_the_only_one():
    text = "Well:\n" + written("f", {}) + "\n" + written("g.h", {}) + " rest"
    assert read([text], single=True)[:2] == ("Well:", [("f", "{}")])


def test_the_end_tag_in_a_text_of_the_arguments_ends_nothing():
    arguments = {"a": '</tool_call> "<tool_call>', "b": {"c": ["}", "{\\"]}}
    assert json.loads(read(list(written("f", arguments)))[1][0][1]) == arguments


@given(calls=CALLS, cuts=st.lists(st.integers(0)))
def test_calls_without_tags_are_read_where_the_answer_begins_with_one(calls, cuts):
    text = "\n".join(json.dumps({"name": name, "arguments": each}) for name, each in calls)
    content, found, _ = read(pieces(text, cuts), bare=True)
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert content == ""
    assert read(pieces(text, cuts))[:2] == (text, [])


@pytest.mark.parametrize(
    "text", ['{"name": "x", "arguments": {}}', '{"a": 1}', '{"name": "f", ' + " " * 300, "{"]
)
def test_another_object_is_an_answer(text):
    assert read(list(text), bare=True)[:2] == (text, [])


LIST = ToolSyntax("[TOOL_CALLS] ", "", form="list")
NAMED = ToolSyntax("[TOOL_CALLS]", "", form="named", separator="[ARGS]")
LLAMA = ToolSyntax("", "", "name", "parameters", optional="<|python_tag|>", single=True)


def listed(*calls: tuple[str, object]) -> str:
    objects = [{"name": name, "arguments": arguments, "id": "abc]},{1"} for name, arguments in calls]
    return f"[TOOL_CALLS] {json.dumps(objects)}"


def named(*calls: tuple[str, object]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(arguments)}" for name, arguments in calls)


@pytest.mark.parametrize(("syntax", "write"), [(LIST, listed), (NAMED, named)], ids=["list", "named"])
@given(calls=CALLS, cuts=st.lists(st.integers(0)))
def test_other_syntaxes_are_read_however_the_text_is_cut(syntax, write, calls, cuts):
    text = "Well: " + write(*calls) if calls else "Well: "
    content, found, _ = read(pieces(text, cuts), syntax=syntax)
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls
    assert content == ("Well:" if calls else "Well: ")


@pytest.mark.parametrize("tag", ["", "<|python_tag|>", " \n"])
@given(arguments=ARGUMENTS, cuts=st.lists(st.integers(0)))
def test_a_whole_answer_is_a_call(tag, arguments, cuts):
    text = tag + json.dumps({"name": "f", "parameters": arguments})
    content, ((name, found),), _ = read(pieces(text, cuts), syntax=LLAMA)
    assert (content, name, json.loads(found)) == ("", "f", arguments)


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (LIST, "[TOOL_CALLS] no list"),
        (LIST, '[TOOL_CALLS] [{"name": "unknown", "arguments": {}}]'),
        (LIST, "[TOOL_CALLS] ["),
        (LIST, "[TOOL_CALLS"),
        (NAMED, "[TOOL_CALLS]unknown[ARGS]{}"),
        (NAMED, "[TOOL_CALLS]f{}"),
        (LLAMA, '{"name": "unknown", "parameters": {}}'),
        (LLAMA, 'Well: {"name": "f", "parameters": {}}'),
        (LLAMA, '{"answer": 1}'),
    ],
)
def test_what_is_no_call_in_another_syntax_stays_text(syntax, text):
    assert read([text], syntax=syntax)[:2] == (text, [])
    assert read(list(text), syntax=syntax)[:2] == (text, [])


@pytest.mark.parametrize(
    ("syntax", "text", "options"),
    [
        (LIST, ' [{"id": "1", "name": "f", "arguments": {"a": 1}}]', {"begun": True}),
        (LIST, '[TOOL_CALLS] [{"arguments": {"a": 1}, "name": "f"}]', {}),
        (LIST, listed(("f", {"a": 1}), ("g.h", {})) + " more", {"single": True}),
        (NAMED, "f[ARGS]" + '{"a": 1}', {"begun": True}),
        (NAMED, '[TOOL_CALLS]f[CALL_ID]abc123xyz[ARGS]{"a": 1}', {}),
        (LLAMA, '{"type": "function", "name": "f", "parameters": {"a": 1}}', {}),
        (LLAMA, '{"name": "f", "parameters": {"a": 1}}\n{"name": "f", "parameters": {}}', {}),
        (LLAMA, '{"name": "f", "parameters": {"a": 1}}', {"begun": True}),
    ],
)
def test_calls_are_read_in_the_spellings_of_their_models(syntax, text, options):
    assert read(list(text), syntax=syntax, **options)[:2] == ("", [("f", '{"a": 1}')])


def test_a_list_that_is_cut_keeps_what_it_has():
    text = listed(("f", {"a": 1}), ("g.h", {"city": "Paris"}))
    assert read([text[: text.index("Par")]], syntax=LIST)[:2] == (
        "",
        [("f", '{"a": 1}'), ("g.h", '{"city": "')],
    )
