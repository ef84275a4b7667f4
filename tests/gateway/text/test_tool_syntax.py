"""How a model writes calls, found in what its own template makes of one."""

import json
from pathlib import Path

import pytest

from gateway.text.chat import ChatTemplate, Message
from gateway.text.llama_tokenizer import LlamaTokenizer
from gateway.text.tool_syntax import ToolSyntax, find
from testing import chat_templates, gguf_files, needs

LONG = "call_0123456789abcdef"
QWEN = ToolSyntax("<tool_call>\n", "\n</tool_call>")
# Control tokens begin at 257 in ``gguf_files.vocabulary_only``.
FAMILIES = [
    (
        chat_templates.LLAMA,
        chat_templates.LLAMA_TOKENS,
        ToolSyntax(
            "", "", "name", "parameters", optional="<|python_tag|>", single=True, tokens={"<|python_tag|>": 260}
        ),
    ),
    (
        chat_templates.MISTRAL,
        chat_templates.MISTRAL_TOKENS,
        ToolSyntax("[TOOL_CALLS] ", "", form="list", short_ids=True, tokens={"[TOOL_CALLS]": 259}),
    ),
    (
        chat_templates.MISTRAL_NAMED,
        chat_templates.MISTRAL_TOKENS,
        ToolSyntax(
            "[TOOL_CALLS]", "", form="named", separator="[ARGS]", short_ids=True,
            tokens={"[TOOL_CALLS]": 259, "[ARGS]": 264},
        ),
    ),
    (
        chat_templates.QWEN_CODER,
        chat_templates.QWEN_CODER_TOKENS,
        ToolSyntax("<tool_call>\n", "\n</tool_call>", form="parameters"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("<tool_call>\n{}\n</tool_call>", QWEN),
        ("<call>{}</call>", ToolSyntax("<call>", "</call>")),
        ("[CALLS]\n[{}]", ToolSyntax("[CALLS]\n", "", form="list")),
        ("<|calls|>[ {} ]", ToolSyntax("<|calls|>", "", form="list")),
        ("text {}", None),
        ("<a>{}</b>", None),
        ("[CALLS] {}", None),
    ],
)
def test_a_syntax_is_found_in_what_a_template_writes(call, expected):
    def render(turns, tools, *, prompted):
        calls = [each["function"] for turn in turns for each in turn.get("tool_calls", ())]
        return json.dumps(tools) + "".join(call.replace("{}", json.dumps(each)) for each in calls) + "<end>"

    assert find(render) == expected
    assert find(lambda turns, tools, prompted: render(turns, [], prompted=prompted)) is None


def test_other_names_of_members_are_found():
    def render(turns, tools, *, prompted):
        calls = [each["function"] for turn in turns for each in turn.get("tool_calls", ())]
        written = [{"tool": each["name"], "parameters": each["arguments"]} for each in calls]
        return json.dumps(tools) + "".join(f"<c>{json.dumps(each)}</c>" for each in written)

    assert find(render) == ToolSyntax("<c>", "</c>", "tool", "parameters")


def template_of(folder: Path, source: str, control: tuple[str, ...]) -> tuple[ChatTemplate, LlamaTokenizer]:
    needs.package("xllamacpp")
    file = gguf_files.vocabulary_only(folder / "m.gguf", "gpt-2", control)
    tokenizer = LlamaTokenizer(file, chat_template=source)
    return ChatTemplate(source, tokenizer.chat_tokens, tokenizer), tokenizer


@pytest.mark.parametrize(
    ("source", "control", "expected"), FAMILIES, ids=["llama", "mistral", "named", "qwen"]
)
async def test_the_families_are_told_by_their_templates(tmp_path, source, control, expected):
    template, tokenizer = template_of(tmp_path, source, control)
    assert template.tool_syntax == expected
    call = {"id": LONG, "type": "function", "function": {"name": "f", "arguments": {"city": "Paris"}}}
    turns = [
        Message("user", "Where?"),
        Message("assistant", "", {"tool_calls": [call]}),
        Message("tool", "12", {"tool_call_id": LONG, "name": "f"}),
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    ids = await template.encode(turns, tools, expected.begin, most=10_000)
    assert "Paris" in tokenizer.decode(ids)
    assert all(ids.count(token) == 1 + (tag == expected.begin) for tag, token in expected.tokens.items()) or (
        expected.optional and expected.tokens[expected.optional] not in ids
    )


async def test_an_id_that_a_template_refuses_is_shortened_the_same_in_call_and_result(tmp_path):
    template, tokenizer = template_of(tmp_path, chat_templates.MISTRAL, chat_templates.MISTRAL_TOKENS)

    async def text(*ids: str) -> str:
        function = {"name": "f", "arguments": {}}
        calls = [{"id": each, "type": "function", "function": function} for each in ids]
        results = [Message("tool", "1", {"tool_call_id": each, "name": ""}) for each in ids]
        turns = [Message("user", "x"), Message("assistant", "", {"tool_calls": calls}), *results]
        return tokenizer.decode(await template.encode(turns, most=10_000))

    assert (await text("abcdef123")).count("abcdef123") == 2
    both = await text(LONG, "call_2")
    found = json.loads(both.split(" [")[1].split("]")[0].join("[]"))
    short = [each["id"] for each in found]
    assert all(len(each) == 9 for each in short)
    assert len(set(short)) == 2
    assert all(both.count(each) == 2 for each in short)


def test_a_tag_without_a_text_of_its_own_is_no_syntax(tmp_path):
    source = chat_templates.MISTRAL.replace("[TOOL_CALLS]", "[CALLS\\ufffd]")
    template, _ = template_of(tmp_path, source, chat_templates.MISTRAL_TOKENS)
    assert template.tool_syntax is None
