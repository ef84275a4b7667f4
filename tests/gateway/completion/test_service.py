"""The order of one request: the caller's limits, then the prompt, then a slot at the engine."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.app import create_app
from gateway.caller import Caller
from gateway.dialects.deps import authenticate
from gateway.text import grammar_check
from testing import needs
from testing.doubles.instant_engine import InstantEngine
from testing.until import until_async
from tests.gateway.conftest import settings
from tests.gateway.dialects.test_chat import model_folder

MEGABYTE = "def f(x):\n    return x + 1\n" * 40_000
CHAT = {
    "messages": [{"role": "user", "content": "hi"}],
    "response_format": {"type": "json_object"},
    "max_tokens": 4,
}


class HeldEngine(InstantEngine):
    """An engine that answers nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.running, self.released = 0, asyncio.Event()

    async def complete(self, request):
        self.running += 1
        await self.released.wait()
        return await super().complete(request)


@pytest.fixture
async def engine() -> HeldEngine:
    return HeldEngine()


@pytest.fixture
async def client(engine, tmp_path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings(model_dir=model_folder(tmp_path), strict=True, max_in_flight=1), engine)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://g", timeout=60) as made:
        made.app = app
        yield made


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": MEGABYTE}),
        ("/v1/completions", {"prompt": MEGABYTE, "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": MEGABYTE}]}),
        ("/completion", {"prompt": ["x", MEGABYTE]}),
    ],
    ids=["completion", "stream", "chat", "llama.cpp"],
)
async def test_a_prompt_that_cannot_fit_is_refused_while_every_slot_is_taken(client, engine, path, body):
    holder = asyncio.create_task(client.post("/v1/completions", json={"prompt": "x", "max_tokens": 4}))
    await until_async(lambda: engine.running == 1)
    answer = await client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert "at least" in answer.text
    assert engine.running == 1
    engine.released.set()
    assert (await holder).status_code == 200


async def test_a_caller_over_its_limit_has_no_grammar_checked(client, engine, monkeypatch):
    needs.package("xllamacpp")
    checked, fault = [], grammar_check.checks.fault
    monkeypatch.setattr(grammar_check.checks, "fault", lambda text: checked.append(text) or fault(text))
    limited = Caller("ann", "ann", concurrency=1)
    client.app.dependency_overrides[authenticate] = lambda: limited
    holder = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
    await until_async(lambda: engine.running == 1)
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 429, answer.text
    assert len(checked) == 1
    engine.released.set()
    assert (await holder).status_code == 200
