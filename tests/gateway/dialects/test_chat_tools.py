"""Tools and response formats: OpenAI's own client, a model that knows nothing of JSON, and the engines that hold it to it."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from gateway.app import create_app
from testing import needs
from testing.servers.gateway import gateway
from testing.servers.llama_server import running_llama
from testing.servers.triton import running_triton
from tests.gateway.conftest import settings
from tests.gateway.dialects.test_chat import END, TALK, model_folder
from tests.serving.test_llama_server import ready

TEMPLATE = """{%- if tools %}{{- bos_token + 'system\\nTools:' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}{{- eos_token }}{%- endif %}
{%- for message in messages %}{{- bos_token + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) + '}\\n</tool_call>' }}
{%- endfor %}{{- eos_token }}{%- endfor %}
{%- if add_generation_prompt %}{{- bos_token + 'assistant\\n' }}{%- endif %}"""
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"$ref": "#/$defs/city"},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "more": {
            "type": "object",
            "properties": {"wind": {"type": "boolean"}},
            "required": ["wind"],
            "additionalProperties": False,
        },
    },
    "required": ["city", "days", "more"],
    "additionalProperties": False,
    "$defs": {"city": {"enum": ["Paris", "Zürich"]}},
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Tell it.", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "now"}},
]
FORCED = {"type": "function", "function": {"name": "weather"}}
ASKED = {"model": "tiny", "messages": TALK[:2], "max_tokens": 120, "temperature": 1, "seed": 3}
STRICT = {"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": WEATHER}}


@pytest.fixture(scope="module")
def tool_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.package("xllamacpp")
    from testing import gguf_files

    folder = tmp_path_factory.mktemp("tools")
    gguf_files.write(folder, gguf_files.chatting(TEMPLATE))
    return folder


@pytest.fixture(scope="module", params=[pytest.param("triton", marks=pytest.mark.triton), "openai"])
def client(request, tool_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """OpenAI's client of a gateway in front of llama.cpp: in Triton, and as a server of its own."""
    if request.param == "openai":
        with running_llama(tool_file) as (address, _):
            ready(address)
            with gateway(tool_file, f"{address}/v1", engine="openai", model="tiny") as running:
                yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")
        return
    settings = {"runtime": "llama_cpp", "precision": "Q8_0", "context_length": 1024}
    with (
        running_triton(tmp_path_factory.mktemp("triton"), tool_file, **settings) as server,
        gateway(tool_file, server.grpc, model="tiny") as running,
    ):
        yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")


def check_weather(text: str) -> None:
    found = json.loads(text)
    assert list(found) == ["city", "days", "more"]
    assert found["city"] in {"Paris", "Zürich"}
    assert 1 <= found["days"] <= 7
    assert isinstance(found["more"]["wind"], bool)


def summed(chunks: list) -> tuple[list[tuple[str, str]], str, str | None]:
    """Return the calls, the text and the reason of a stream, read as OpenAI's documentation says."""
    calls: list[list[str]] = []
    text, reason = "", None
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                if call.id:
                    assert (call.type, call.index) == ("function", len(calls))
                    calls.append([call.function.name, ""])
                calls[call.index][1] += call.function.arguments or ""
    return [(name, arguments) for name, arguments in calls], text, reason


@pytest.mark.parametrize("seed", range(3))
def test_a_forced_call_keeps_to_the_schema(client, seed):
    options = ASKED | {"tools": TOOLS, "tool_choice": FORCED, "seed": seed}
    answer = client.chat.completions.create(**options)
    (choice,) = answer.choices
    (call,) = choice.message.tool_calls
    assert (call.function.name, choice.finish_reason, choice.message.content) == (
        "weather",
        "tool_calls",
        None,
    )
    check_weather(call.function.arguments)
    assert 0 < answer.usage.completion_tokens < ASKED["max_tokens"]


def test_a_streamed_call_comes_in_pieces(client):
    options = ASKED | {"tools": TOOLS, "tool_choice": FORCED, "stream": True}
    chunks = list(client.chat.completions.create(**options, stream_options={"include_usage": True}))
    first = chunks[0].choices[0].delta
    assert (first.role, first.content) == ("assistant", None)
    assert (first.tool_calls[0].function.name, first.tool_calls[0].function.arguments) == ("weather", "")
    calls, text, reason = summed(chunks)
    ((name, arguments),) = calls
    assert (name, text, reason) == ("weather", "", "tool_calls")
    check_weather(arguments)
    # How many tokens a chunk has is the load's to say.
    assert len(chunks) > 2
    assert chunks[-1].usage.completion_tokens > 0


def test_required_is_a_call_of_some_function(client):
    options = ASKED | {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    (call,) = client.chat.completions.create(**options).choices[0].message.tool_calls
    if call.function.name == "now":
        assert call.function.arguments == "{}"
    else:
        assert call.function.name == "weather"
        check_weather(call.function.arguments)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_answer_keeps_to_its_schema(client, stream):
    answer = client.chat.completions.create(**ASKED, response_format=STRICT, stream=stream)
    if stream:
        calls, text, reason = summed(list(answer))
    else:
        calls, text, reason = [], answer.choices[0].message.content, answer.choices[0].finish_reason
    assert (calls, reason) == ([], "stop")
    check_weather(text)


def test_any_object_is_an_object_as_far_as_it_goes(client):
    text = client.chat.completions.create(**ASKED, response_format={"type": "json_object"})
    assert text.choices[0].message.content.startswith("{")


def test_a_call_that_is_cut_says_so(client):
    options = ASKED | {"tools": TOOLS, "tool_choice": FORCED, "max_tokens": 14}
    whole = client.chat.completions.create(**options)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 14


def test_without_a_choice_the_model_may_answer_with_text(client):
    options = ASKED | {"max_tokens": 8, "tools": TOOLS}
    (choice,) = client.chat.completions.create(**options).choices
    assert choice.message.content
    assert choice.message.tool_calls is None
    assert client.chat.completions.create(**options | {"tool_choice": "none"}).choices[0].message.content


def test_a_talk_with_calls_and_results_goes_on(client):
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    talk = [
        *TALK[:2],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
    ]
    answer = client.chat.completions.create(**ASKED | {"messages": talk, "tools": TOOLS, "max_tokens": 4})
    assert answer.usage.completion_tokens > 0


async def post(folder: Path, body: dict, **changes) -> httpx.Response:
    # Nothing listens there: a refusal comes before the engine is asked.
    app = create_app(settings(model_dir=folder, engine_url="127.0.0.1:9", model="tiny", **changes))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        found = await http.post("/v1/chat/completions", json={"messages": TALK} | body)
    await app.state.completion_service.completer.close()
    return found


def schema(value: object, **members: object) -> dict:
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": value, **members}}
    }


def tool(**function: object) -> dict:
    return {"tools": [{"type": "function", "function": {"name": "f", **function}}]}


DEEP: dict = {}
for _ in range(40):
    DEEP = {"properties": {"a": DEEP}}


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (schema({"type": "nope"}), "response_format", "nope"),
        (schema({"$ref": "#/none"}), "response_format", "/none"),
        (schema({"pattern": "(", "type": "string"}), "response_format", "regex"),
        (schema(DEEP), "response_format", "levels deep"),
        (schema(json.loads('{"a":' * 900 + "{}" + "}" * 900)), "response_format", "levels deep"),
        (schema({"description": "x" * 70_000}), "response_format", "larger than"),
        (schema({"type": "array", "uniqueItems": True}, strict=True), "response_format", "uniqueItems"),
        (schema({"type": "object"}, strict=True), "response_format", "additionalProperties"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "needs json_schema"),
        ({"response_format": {"type": "xml"}}, "response_format", "json_object"),
        (tool(parameters={"type": "string"}), "tools", "type object"),
        (tool(parameters={"type": "object", "properties": {"a": {"type": "nope"}}}), "tools", "nope"),
        (tool(name="a b"), "tools", "pattern"),
        ({"tools": [{"type": "web_search"}]}, "tools", "function"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools", "one name"),
        ({"tool_choice": "required"}, "tool_choice", "needs tools"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            "'x'",
        ),
        ({"functions": [{"name": "f"}]}, "functions", "Send tools"),
    ],
)
async def test_what_cannot_be_used_is_refused_before_anything_is_queued(tool_file, body, param, says):
    found = await post(tool_file, body)
    error = found.json()["error"]
    assert (found.status_code, error["param"]) == (400, param)
    assert says in error["message"]


@pytest.mark.parametrize(
    "template", ["{{ messages[0].content }}", "{{ tools | tojson }}{{ messages[0].content }}"]
)
@pytest.mark.parametrize(
    "body", [{"tools": TOOLS}, {"messages": [*TALK, {"role": "tool", "content": "1"}]}], ids=["tools", "turn"]
)
async def test_a_template_without_calls_is_refused_by_name(tmp_path, template, body):
    found = await post(model_folder(tmp_path, template), body)
    assert found.status_code == 400
    assert "'tiny'" in found.json()["error"]["message"]


@pytest.mark.parametrize("arguments", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, "{", "1", ""])
async def test_arguments_of_any_kind_come_back_to_the_template(tool_file, arguments):
    call = {"id": None, "type": "function", "function": {"name": "now", "arguments": arguments}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call], "name": None}
    found = await post(tool_file, {"messages": [TALK[1], turn], "max_tokens": 4})
    # Up to the engine, which is not there, or too long for the model.
    assert found.status_code in ({503, 400} if len(arguments) > 1000 else {503})


@pytest.mark.triton
@pytest.mark.parametrize("stream", [False, True])
def test_a_runtime_that_cannot_says_which_can(triton, tmp_path, stream):
    with gateway(model_folder(tmp_path), triton.grpc) as running:
        body = {"messages": TALK, "response_format": {"type": "json_object"}, "stream": stream}
        found = httpx.post(f"{running.url}/v1/chat/completions", json=body, timeout=60)
    assert found.status_code == 400
    assert "llama_cpp" in found.json()["error"]["message"]


@pytest.mark.triton
def test_a_client_without_the_gateway_is_bounded_too(triton):
    from tritonclient.utils import InferenceServerException

    from tests.serving.client import Client

    client = Client(triton)
    for grammar, says in (("x", "llama.cpp"), ("x" * 200_000, "at most"), (1, "text")):
        with pytest.raises(InferenceServerException, match=says):
            client.ids("x", 2, call={"parameters": {"grammar": grammar}})


async def test_control_tokens_in_tools_and_arguments_are_text(tool_file):
    from gateway.text.chat import ChatTemplate, Message
    from gateway.text.loading import load_tokenizer

    tokenizer = load_tokenizer(tool_file)
    template = ChatTemplate(tokenizer.chat_template, tokenizer.chat_tokens, tokenizer)
    call = {"function": {"name": "f", "arguments": {END: [END]}}}
    tools = [{"type": "function", "function": {"name": "f", "description": END}}]
    ids = await template.encode(
        [Message(f"user{END}", "x"), Message("assistant", "", {"tool_calls": [call]})], tools, most=2048
    )
    plain = [{"type": "function", "function": {"name": "f", "description": "d"}}]
    call_plain = {"function": {"name": "f", "arguments": {"k": ["v"]}}}
    fine = await template.encode(
        [Message("user", "x"), Message("assistant", "", {"tool_calls": [call_plain]})], plain, most=2048
    )
    assert ids.count(tokenizer.eos_id) == fine.count(tokenizer.eos_id)
    assert tokenizer.decode(ids).count(END) == 4
