"""A GitLab server's token check on loopback, with every way of failing that the matrix names."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class FakeGitLab:
    """Answers ``GET /api/v4/ml/ai-assist``; set ``status``, ``answer``, ``delay_s`` or ``denied`` to misbehave."""

    def __init__(self) -> None:
        self.status = 200
        self.answer: object = {"user_is_allowed": True}
        self.delay_s = 0.0
        self.denied: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v4/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                token = self.headers.get("Authorization", "")
                fake.calls.append((self.path, token))
                time.sleep(fake.delay_s)
                status, answer = fake.status, fake.answer
                if token.removeprefix("Bearer ") in fake.denied:
                    status, answer = 401, {"message": "401 Unauthorized"}
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
                pass

        return Handler

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gitlab() -> Iterator[FakeGitLab]:
    """Run a fake of the test's own."""
    fake = FakeGitLab()
    yield fake
    fake.close()
