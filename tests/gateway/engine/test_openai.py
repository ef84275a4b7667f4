"""Any OpenAI-compatible server as the engine: text in the same pipeline, failures as our errors."""

import json

import httpx
import pytest

from gateway.app import create_app
from gateway.engine.base import Constraint, GenerateRequest, Sampling
from gateway.engine.openai import OpenAIEngine
from gateway.errors import ApiError
from tests.gateway.conftest import settings


def generate(**changes) -> GenerateRequest:
    return GenerateRequest(
        **{"prompt_ids": [1, 2], "max_tokens": 8, "sampling": Sampling(), "seeds": [3], **changes}
    )


def sse(*objects: object, done: bool = True) -> bytes:
    return b"".join(b"data: " + json.dumps(o).encode() + b"\n\n" for o in objects) + (
        b"data: [DONE]\n\n" if done else b""
    )


def choice(text: str, reason: str | None = None, index: int = 0) -> dict:
    return {"choices": [{"index": index, "text": text, "finish_reason": reason}]}


def engine(content: bytes = b"", status: int = 200, seen: list | None = None, error: Exception | None = None):
    def answer(request: httpx.Request) -> httpx.Response:
        if error:
            raise error
        if seen is not None and request.content:
            seen.append(json.loads(request.content))
        return httpx.Response(status, content=content)

    return OpenAIEngine("http://server/v1", "m", transport=httpx.MockTransport(answer))


async def test_a_whole_answer_is_collected_from_the_stream():
    seen: list[dict] = []
    made = engine(
        sse(choice("a"), choice("b", index=1), choice("c", "length"), choice("", "stop", 1)), seen=seen
    )
    rows = await made.complete(generate(n=2, seeds=[3, 4], stops=("\n",), seeded=True))
    assert [(row.text, row.finish_reason, row.final) for row in rows] == [
        ("ac", "length", True),
        ("b", "stop", True),
    ]
    assert (seen[0]["prompt"], seen[0]["stop"], seen[0]["seed"], seen[0]["n"]) == ([1, 2], ["\n"], 3, 2)


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (engine(status=500), 502),
        (engine(status=429), 503),
        (engine(sse(choice("a"))), 502),
        (engine(b"data: {broken\n\n"), 502),
        (engine(sse({"error": {"message": "x"}})), 502),
        (engine(sse(choice("a", "stop", 7))), 502),
        (engine(error=httpx.ConnectError("no")), 503),
        (engine(error=httpx.ReadTimeout("slow")), 504),
        (engine(error=httpx.RemoteProtocolError("cut")), 503),
    ],
    ids=["500", "429", "cut short", "no json", "error event", "wrong index", "down", "slow", "broken"],
)
async def test_a_failing_server_is_our_error(made, status):
    with pytest.raises(ApiError) as caught:
        await made.complete(generate())
    assert caught.value.status == status


async def test_a_schema_is_sent_as_both_servers_take_it():
    seen: list[dict] = []
    made = engine(sse(choice("{}", "stop")), seen=seen)
    await made.complete(generate(constraint=Constraint("grammar", '{"type": "object"}')))
    assert seen[0]["json_schema"] == {"type": "object"}
    assert seen[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    await made.complete(generate(constraint=Constraint("grammar", required=False)))
    assert not {"grammar", "json_schema", "response_format"} & seen[1].keys()
    with pytest.raises(ApiError, match="tools and a response_format"):
        await made.complete(generate(constraint=Constraint("grammar")))
    assert len(seen) == 2


async def test_log_probabilities_are_refused_because_there_are_none():
    with pytest.raises(ApiError, match="log probabilities"):
        await engine(sse(choice("a", "stop"))).complete(generate(logprobs=True))


@pytest.mark.parametrize("stream", [False, True])
async def test_text_is_cut_at_stops_in_the_same_pipeline(stream):
    app = create_app(settings(), engine(sse(choice("ab"), choice("c\nd"), choice("e", "length"))))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as client:
        answer = await client.post("/v1/completions", json={"prompt": "x", "stop": "c\n", "stream": stream})
    assert answer.status_code == 200
    assert '"ab"' in answer.text
    assert "d" not in answer.text.split('"text":"')[-1].split('"')[0]
    assert '"finish_reason":"stop"' in answer.text


async def test_ready_asks_for_the_models():
    assert await engine(b"{}").ready()
    assert not await engine(status=503).ready()
    assert not await engine(error=httpx.ConnectError("no")).ready()
