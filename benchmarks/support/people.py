"""The editors of several people at one server: each sends its session's requests and leaves at the next key.

Both contenders speak llama.cpp's ``/infill``, streamed; greedy, one line at most.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from benchmarks.support.typing_session import Asked, Session

_TOKENS = 48
# A prompt that must be read from the beginning may take this long; then the run is given up.
_OPEN_S = 600.0


@dataclass(slots=True)
class Answer:
    """What became of one request; times are seconds from its sending, ``None`` is "not before it ended"."""

    first_s: float | None = None
    line_s: float | None = None
    ended_s: float = 0.0
    received: int = 0
    prompt_tokens: int = 0
    predicted: int | None = None
    text: str = ""
    right: bool = False
    """The answer is the rest of the line as the file has it."""


@dataclass(slots=True)
class Replay:
    """All answers of one run, and the seconds to the first answer in each opened file."""

    answers: list[Answer] = field(default_factory=list)
    opened_s: list[float] = field(default_factory=list)


def replay(url: str, sessions: Sequence[Session], headers: Sequence[dict[str, str]]) -> Replay:
    """Run the sessions at the same time, one person each; return what each request got.

    Raises ``RuntimeError`` when the server refuses a request.
    """
    return asyncio.run(_replay(url, sessions, headers))


async def _replay(url: str, sessions: Sequence[Session], headers: Sequence[dict[str, str]]) -> Replay:
    done = Replay()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=_OPEN_S, trust_env=False) as client:
        # One after the other: that a file is read once, when it is opened, is not what the table is about.
        for each, head in zip(sessions, headers, strict=True):
            opened = await _ask(client, each.opening, head, tokens=1, until=time.perf_counter() + _OPEN_S)
            done.opened_s.append(opened.ended_s)
        begin = time.perf_counter()
        people = (_person(client, each, head, begin) for each, head in zip(sessions, headers, strict=True))
        for answers in await asyncio.gather(*people):
            done.answers.extend(answers)
    return done


async def _person(
    client: httpx.AsyncClient, session: Session, headers: dict[str, str], begin: float
) -> list[Answer]:
    answers = []
    for asked in session.requests:
        await asyncio.sleep(max(0.0, begin + asked.at_s - time.perf_counter()))
        until = begin + asked.cancelled_at_s
        if time.perf_counter() < until:
            answers.append(await _ask(client, asked, headers, tokens=_TOKENS, until=until))
    return answers


async def _ask(
    client: httpx.AsyncClient, asked: Asked, headers: dict[str, str], *, tokens: int, until: float
) -> Answer:
    """Send one request, and leave it at ``until``: the connection is closed, as editors do."""
    body = {
        "input_prefix": asked.prefix, "input_suffix": asked.suffix, "n_predict": tokens, "stop": ["\n"],
        "temperature": 0.0, "top_k": 1, "stream": True, "cache_prompt": True,
    }  # fmt: skip
    answer, sent = Answer(), time.perf_counter()
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(until - sent),
            client.stream("POST", "/infill", json=body, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                await response.aread()
                raise RuntimeError(f"{response.status_code} from {client.base_url}: {response.text[:300]}")
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    _note(answer, json.loads(line[6:]), time.perf_counter() - sent)
    answer.ended_s = time.perf_counter() - sent
    answer.right = answer.line_s is not None and answer.text.rstrip() == asked.truth.rstrip()
    return answer


def _note(answer: Answer, event: dict[str, object], now: float) -> None:
    """Record one event of the stream. Raises ``RuntimeError`` for an error."""
    if "error" in event:
        raise RuntimeError(f"the stream failed: {event['error']}")
    if answer.first_s is None:
        answer.first_s = now
    if event["stop"]:
        answer.line_s = now
        answer.predicted = int(str(event["tokens_predicted"]))
        answer.prompt_tokens = int(str(event["tokens_evaluated"]))
    else:
        answer.received += 1
        answer.text += str(event["content"])


def quantile(times: Iterable[tuple[float, bool]], share: float) -> float | None:
    """Return the time within which ``share`` of the requests had their answer (Kaplan and Meier).

    A request that its editor left says only that the answer took longer, so it must count neither as answered
    nor not at all. ``times`` has seconds and whether the answer came. ``None``: fewer were answered.
    """
    waiting = sorted(times, key=lambda each: (each[0], not each[1]))
    without = 1.0
    for number, (seconds, came) in enumerate(waiting):
        if came:
            without *= 1 - 1 / (len(waiting) - number)
        if without <= 1 - share:
            return seconds
    return None
