"""A GitLab server's token check on loopback, with every way of failing that the matrix names."""

import json
from collections.abc import Iterator

import pytest

from testing.doubles.answering import AnsweringServer


class FakeGitLab(AnsweringServer):
    """Answers ``GET /api/v4/ml/ai-assist``; set ``status``, ``reply``, ``delay_s`` or ``denied`` to misbehave."""

    def __init__(self) -> None:
        self.status = 200
        self.reply: object = {"user_is_allowed": True}
        self.denied: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        super().__init__()
        self.url += "/api/v4/"

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        self.calls.append((path, authorization))
        status, reply = self.status, self.reply
        if authorization.removeprefix("Bearer ") in self.denied:
            status, reply = 401, {"message": "401 Unauthorized"}
        return status, reply if isinstance(reply, bytes) else json.dumps(reply).encode()


@pytest.fixture
def gitlab() -> Iterator[FakeGitLab]:
    """Run a fake of the test's own."""
    fake = FakeGitLab()
    yield fake
    fake.close()
