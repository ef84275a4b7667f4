"""Tools with the templates of Llama, Mistral and Qwen3-Coder: the engines hold a model to them, and any text is read."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from gateway.app import create_app
from testing import chat_templates, needs
from testing.servers.gateway import gateway
from testing.servers.llama_server import running_llama
from testing.servers.triton import running_triton
from tests.gateway.conftest import settings
from tests.gateway.dialects.test_chat_tools import ASKED, FORCED, TOOLS, check_weather, summed
from tests.gateway.engine.test_openai import choice, engine, sse
from tests.serving.test_llama_server import ready

FAMILIES = {
    "llama": (chat_templates.LLAMA, chat_templates.LLAMA_TOKENS),
    "mistral": (chat_templates.MISTRAL, chat_templates.MISTRAL_TOKENS),
    "named": (chat_templates.MISTRAL_NAMED, chat_templates.MISTRAL_TOKENS),
    "qwen": (chat_templates.QWEN_CODER, chat_templates.QWEN_CODER_TOKENS),
}
REQUIRED = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
Served = tuple[openai.OpenAI, str]


def family_folder(folder: Path, name: str) -> Path:
    needs.package("xllamacpp")
    from testing import gguf_files

    gguf_files.write(folder, gguf_files.chatting(*FAMILIES[name]))
    return folder


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param((name, "triton"), marks=pytest.mark.triton, id=f"{name}-triton") for name in FAMILIES),
        *(pytest.param((name, "openai"), id=f"{name}-openai") for name in ("llama", "mistral")),
    ],
)
def served(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """OpenAI's client of a gateway in front of llama.cpp, and the family of its model's template."""
    family, kind = request.param
    file = family_folder(tmp_path_factory.mktemp(family), family)
    if kind == "openai":
        with running_llama(file) as (address, _):
            ready(address)
            with gateway(file, f"{address}/v1", engine="openai", model="tiny") as running:
                yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="none"), family
        return
    settings = {"runtime": "llama_cpp", "precision": "Q8_0", "context_length": 1024}
    with (
        running_triton(tmp_path_factory.mktemp("triton"), file, **settings) as server,
        gateway(file, server.grpc, model="tiny") as running,
    ):
        yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="none"), family


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_named_function_is_called_to_the_letter_of_its_schema(served, stream):
    client, _ = served
    answer = client.chat.completions.create(**ASKED, tools=TOOLS, tool_choice=FORCED, stream=stream)
    if stream:
        chunks = list(answer)
        ((name, arguments),), text, reason = summed(chunks)
        assert len(chunks) > 5
    else:
        (found,) = answer.choices
        (call,) = found.message.tool_calls
        name, arguments, reason = call.function.name, call.function.arguments, found.finish_reason
        text = found.message.content or ""
    assert (name, reason, text) == ("weather", "tool_calls", "")
    check_weather(arguments)


@pytest.mark.parametrize("seed", range(2))
def test_required_and_not_parallel_is_one_call_of_some_function(served, seed):
    client, _ = served
    answer = client.chat.completions.create(**ASKED | {"seed": seed}, **REQUIRED)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name in {"weather", "now"}
    if call.function.name == "weather":
        check_weather(call.function.arguments)


def test_a_call_that_is_cut_says_so_and_has_what_came(served):
    client, _ = served
    options = ASKED | {"tools": TOOLS, "tool_choice": FORCED, "max_tokens": 14, "stream": True}
    calls, _, reason = summed(list(client.chat.completions.create(**options)))
    assert reason == "length"
    assert all(name == "weather" for name, _ in calls)


def test_without_a_choice_the_model_may_answer_with_text(served):
    client, _ = served
    (found,) = client.chat.completions.create(**ASKED | {"max_tokens": 8, "tools": TOOLS}).choices
    assert found.finish_reason in {"stop", "length", "tool_calls"}
    assert found.message.content or found.message.tool_calls


def test_a_talk_with_calls_and_results_goes_on(served):
    client, family = served
    call = {"id": "call_abcdefghijkl", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    talk = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "12:00"},
    ]
    options = ASKED | {"tools": TOOLS, "max_tokens": 4}
    assert client.chat.completions.create(**options | {"messages": talk}).usage.completion_tokens > 0
    two = [talk[0], talk[1] | {"tool_calls": [call, call | {"id": "call_2"}]}, talk[2]]
    if family == "llama":
        with pytest.raises(openai.BadRequestError, match="one call a turn"):
            client.chat.completions.create(**options | {"messages": two})
    else:
        assert client.chat.completions.create(**options | {"messages": two}).usage.completion_tokens > 0


CITY = 'A "quoted" \\ city\n</tool_call>]}'
QUOTED = json.dumps({"city": CITY, "days": 2})
CALL = json.dumps({"name": "weather", "arguments": json.loads(QUOTED)})
NOW = '{"name": "now", "arguments": {}}'
XML = f"<parameter=city>\n{CITY}\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>"
NOW_XML = "<tool_call>\n<function=now>\n</function>\n</tool_call>"
# Per family: text before a call with quotes in quotes, two calls, and a call of a function that is not given.
WRITTEN = {
    "mistral": (
        f"Let me see.[TOOL_CALLS] [{CALL}]",
        f'[TOOL_CALLS] [{CALL}, {NOW[:-1]}, "id": "abcdefghi"}}]',
        '[TOOL_CALLS] [{"name": "rm", "arguments": {}}]',
    ),
    "named": (
        f"Let me see.[TOOL_CALLS]weather[ARGS]{QUOTED}",
        f"[TOOL_CALLS]weather[ARGS]{QUOTED}[TOOL_CALLS]now[ARGS]{{}}",
        "[TOOL_CALLS]rm[ARGS]{}",
    ),
    "qwen": (
        f"Let me see.\n<tool_call>\n<function=weather>\n{XML}",
        f"<tool_call>\n<function=weather>\n{XML}\n{NOW_XML}",
        "<tool_call>\n<function=rm>\n</function>\n</tool_call>",
    ),
}
LOOSE = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]


async def said(folder: Path, text: str, *, stream: bool, **body: object) -> tuple[list, str, str, list]:
    """Return calls, content, reason and the engine's requests for a model that says ``text``, in small pieces."""
    pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
    seen: list[dict] = []
    content = sse(*map(choice, pieces), choice("", "stop"))
    app = create_app(settings(model_dir=folder, model="tiny"), engine(content, seen=seen))
    body = {"messages": [{"role": "user", "content": "x"}], "tools": LOOSE, "stream": stream} | body
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
        answer = await client.post("/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    if stream:
        lines = [
            line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")
        ]
        chunks = [openai.types.chat.ChatCompletionChunk.model_validate_json(line) for line in lines]
        return (*summed(chunks), seen)
    (found,) = answer.json()["choices"]
    calls = [
        (c["function"]["name"], c["function"]["arguments"]) for c in found["message"].get("tool_calls", ())
    ]
    return calls, found["message"]["content"] or "", found["finish_reason"], seen


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("family", WRITTEN)
async def test_what_a_model_of_a_family_writes_is_read(tmp_path, family, stream):
    folder = family_folder(tmp_path, family)
    one, two, none = WRITTEN[family]
    calls, text, reason, seen = await said(folder, one, stream=stream)
    found = [(name, json.loads(each)) for name, each in calls]
    assert (found, text, reason) == ([("weather", json.loads(QUOTED))], "Let me see.", "tool_calls")
    assert seen[0].get("preserved_tokens", []) == [t for t in ("[TOOL_CALLS]", "[ARGS]") if t in one]
    calls, text, reason, _ = await said(folder, two, stream=stream)
    assert ([name for name, _ in calls], text) == (["weather", "now"], "")
    calls, _, _, _ = await said(folder, two, stream=stream, parallel_tool_calls=False)
    assert [name for name, _ in calls] == ["weather"]
    assert (await said(folder, none, stream=stream))[:3] == ([], none, "stop")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_what_llama_writes_is_a_call_only_as_the_whole_answer(tmp_path, stream):
    folder = family_folder(tmp_path, "llama")
    call = CALL.replace('"arguments"', '"parameters"')
    for text in (call, "<|python_tag|>" + call, f"{call}\n{call}"):
        calls, content, reason, _ = await said(folder, text, stream=stream)
        assert [(name, json.loads(each)) for name, each in calls] == [("weather", json.loads(QUOTED))]
        assert (content, reason) == ("", "tool_calls")
    for text in (f"Well: {call}", '{"name": "rm", "parameters": {}}', '{"answer": 1}'):
        calls, content, reason, _ = await said(folder, text, stream=stream)
        assert (calls, content, reason) == ([], text, "stop")


async def test_an_engine_that_cannot_hold_to_elements_refuses_to_be_forced(tmp_path):
    folder = family_folder(tmp_path, "qwen")
    app = create_app(settings(model_dir=folder, model="tiny"), engine())
    body = {"messages": [{"role": "user", "content": "x"}], **REQUIRED}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
        answer = await client.post("/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 400
    assert "llama_cpp" in answer.json()["error"]["message"]
