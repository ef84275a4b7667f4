"""Answers typed through: the caller's own, greedy, complete and recent ones, and no others."""

from dataclasses import replace

import pytest

from gateway.completion.recent_answers import RecentAnswers
from gateway.completion.types import Choice, CompletionRequest
from gateway.engine.base import Sampling
from gateway.text.prompt import Prompt
from tests.gateway.replay import events, texts

GREEDY = Sampling(temperature=0)
BEFORE, ANSWER = "def add(a, b):\n    ", "return a + b"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def request(text: str = BEFORE, suffix: str = "\n", **changes) -> CompletionRequest:
    options = {"prompts": [Prompt(text=text, suffix=suffix)], "max_tokens": 32, "sampling": GREEDY, **changes}
    return CompletionRequest(**options)


TYPED = request(BEFORE + "r")


def kept(clock: Clock | None = None, *, ttl_s: float = 60, asked=None, **choice) -> RecentAnswers:
    recent = RecentAnswers(ttl_s, clock or Clock())
    recent.keep(
        "ann",
        asked or request(),
        Choice(0, **{"text": ANSWER, "finish_reason": "stop", "stop": "\n", **choice}),
    )
    return recent


@pytest.mark.parametrize("typed", ["r", "return ", "return a + "])
def test_the_rest_of_an_answer_follows_what_was_typed_of_it(typed):
    found = kept().find("ann", request(BEFORE + typed))
    assert (found.text, found.finish_reason, found.stop) == (ANSWER[len(typed) :], "stop", "\n")


@pytest.mark.parametrize(
    "text", [BEFORE, BEFORE + "x", BEFORE + ANSWER, BEFORE + ANSWER + " + c", BEFORE[:-1], "x" + BEFORE]
)
def test_another_text_is_a_question_for_the_engine(text):
    assert kept().find("ann", request(text)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"suffix": "\n\n"}, {"max_tokens": 16}, {"stops": ("x",)}, {"model": "other"}, {"n": 2}, {"best_of": 2},
        {"echo": True}, {"logprobs": 0}, {"token_ids": True}, {"sampling": Sampling(temperature=0.2)},
        {"sampling": replace(GREEDY, repetition_penalty=1.1)}, {"prompts": [Prompt(text=BEFORE + "r")]},
        {"prompts": [Prompt(text=BEFORE + "r", suffix="\n", files=[("a.py", "x")])]},
        {"prompts": [Prompt(ids=[1])]}, {"prompts": [Prompt(text=BEFORE + "r", suffix="\n")] * 2},
    ],
    ids=str,
)  # fmt: skip
def test_another_kind_of_request_is_a_question_for_the_engine(changes):
    assert (
        kept().find(
            "ann", request(BEFORE + "r", **changes) if "prompts" not in changes else request(**changes)
        )
        is None
    )


def test_no_caller_gets_the_answer_of_another():
    assert kept().find("bob", TYPED) is None


@pytest.mark.parametrize(
    "choice", [{"finish_reason": "length"}, {"finish_reason": None}, {"text": ""}, {"text": "x" * 5000}]
)
def test_only_answers_that_ended_by_themselves_and_are_not_huge_are_kept(choice):
    assert kept(**choice).find("ann", TYPED) is None


def test_sampled_answers_are_not_kept():
    sampled = request(sampling=Sampling(temperature=0.8))
    recent = kept(asked=sampled)
    assert recent.find("ann", TYPED) is None
    assert recent.find("ann", request(BEFORE + "r", sampling=sampled.sampling)) is None


def test_answers_are_forgotten():
    clock = Clock()
    recent = kept(clock)
    clock.now = 59
    assert recent.find("ann", TYPED)
    clock.now = 60
    assert recent.find("ann", TYPED) is None
    assert kept(ttl_s=0).find("ann", TYPED) is None


def test_any_request_removes_every_callers_expired_answers():
    clock = Clock()
    recent = kept(clock)
    clock.now = 30
    recent.keep("ann", request("# later"), Choice(0, "xyz", finish_reason="stop"))
    recent.keep("bob", request(), Choice(0, ANSWER, finish_reason="stop"))
    for clock.now, left in ((59, 3), (60, 2), (90, 0)):
        assert recent.find("eve", TYPED) is None
        assert sum(map(len, vars(recent)["_by_caller"].values())) == left


def test_the_number_of_answers_and_of_callers_is_bounded():
    recent = kept()
    for number in range(8):
        recent.keep("ann", request(f"# {number}"), Choice(0, "xyz", finish_reason="stop"))
    assert recent.find("ann", TYPED) is None
    assert recent.find("ann", request("# 7x"))
    for number in range(256):
        recent.keep(f"caller{number}", request(), Choice(0, "rest", finish_reason="stop"))
    assert recent.find("ann", request("# 7x")) is None
    assert recent.find("caller255", TYPED)


async def test_through_the_gateway_the_engine_is_not_asked_again(client, script):
    body = {"prompt": "int f", "max_tokens": 16, "temperature": 0, "stop": ["\n"]}
    first = (await client.post("/v1/completions", json=body)).json()
    assert (first["choices"][0]["text"], first["choices"][0]["finish_reason"]) == ("() {", "stop")
    asked = len(script.requests)
    rest = (await client.post("/v1/completions", json={**body, "prompt": "int f("})).json()
    assert (rest["choices"][0]["text"], rest["choices"][0]["finish_reason"]) == (") {", "stop")
    assert rest["usage"]["completion_tokens"] > 0
    streamed = await client.post("/v1/completions", json={**body, "prompt": "int f() ", "stream": True})
    assert "".join(texts(events(streamed)).values()) == "{"
    assert len(script.requests) == asked
    other = (await client.post("/v1/completions", json={**body, "prompt": "int g("})).json()
    assert other["choices"][0]["text"] == "() {"
    assert len(script.requests) == asked + 1


async def test_token_ids_come_from_the_engine(client, script):
    body = {"prompt": "int f", "max_tokens": 16, "temperature": 0, "stop": ["\n"], "return_token_ids": True}
    for prompt in ("int f", "int f("):
        choice = (await client.post("/v1/completions", json={**body, "prompt": prompt})).json()["choices"][0]
        assert choice["token_ids"]
    assert len(script.requests) == 2
