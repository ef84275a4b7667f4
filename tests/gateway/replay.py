"""What the replay tests share: the recorded cases, and reading event streams strictly."""

import json
from pathlib import Path

import httpx
import pytest

from testing import recordings

RECORDINGS = Path(recordings.__file__).parent
# For recorded requests with a suffix: any text serves, as only the answer's shape is compared.
FIM_TEMPLATE = "<P>{prefix}<S>{suffix}<M>"


def cases(file: str, *names: str) -> list:
    """Return a file's cases as parameters, all or the named ones; a name that is not there fails at collection."""
    found = {case["name"]: case for case in json.loads((RECORDINGS / file).read_text("utf-8"))["cases"]}
    return [pytest.param(found[name], id=name) for name in (names or found)]


def case(file: str, name: str) -> dict:
    return next(c for c in json.loads((RECORDINGS / file).read_text("utf-8"))["cases"] if c["name"] == name)


def events(answer: httpx.Response, *, done: bool = True) -> list[dict]:
    """Return the JSON objects of a stream; anything but ``data: `` lines, LF and ``[DONE]`` is a failure."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "\r" not in answer.text
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    if done:
        assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def texts(found: list[dict]) -> dict[int, str]:
    """Return each choice's text; exactly one finish reason per choice, on its last event."""
    joined: dict[int, str] = {}
    finished: set[int] = set()
    for event in found:
        for choice in event["choices"]:
            assert choice["index"] not in finished
            joined[choice["index"]] = joined.get(choice["index"], "") + choice["text"]
            if choice["finish_reason"] is not None:
                finished.add(choice["index"])
    assert finished == set(joined)
    return joined
