"""People at a server: they measure what comes, leave in time, and a left request counts as a long one."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator

import pytest

from benchmarks.support.people import quantile, replay
from benchmarks.support.typing_session import Asked, Session


@pytest.mark.parametrize(
    ("times", "median"),
    [
        ([(1, True), (2, True), (3, True), (4, True)], 2),
        ([(1, True), (2, True), (9, False), (9, False)], 2),
        # Who left after half a second says nothing about those who stayed.
        ([(0.5, False), (0.5, False), (1, True), (2, True)], 1),
        ([(1, True), (9, False), (9, False)], None),
        ([], None),
    ],
)
def test_a_left_request_took_longer_than_its_editor_waited(times, median):
    assert quantile(times, 0.5) == median


class Server:
    """An ``/infill`` that answers "a", then "b" and the end, or only "a" where the prefix asks it to hang."""

    def __init__(self, status: str = "200 OK") -> None:
        self.status = status
        self.left = threading.Event()
        self.bodies: list[dict] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(f"HTTP/1.1 {self.status}\r\nconnection: close\r\n\r\n".encode())
        self._send(writer, {"content": "a", "stop": False})
        if "hang" in self.bodies[-1]["input_prefix"]:
            await reader.read()
            self.left.set()
        else:
            self._send(writer, {"content": "b", "stop": False})
            self._send(writer, {"content": "", "stop": True, "tokens_predicted": 3, "tokens_evaluated": 7})
        writer.close()

    @staticmethod
    def _send(writer: asyncio.StreamWriter, event: dict) -> None:
        writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")


@contextlib.contextmanager
def running(server: Server) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(server.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(listening.wait_closed())
        loop.close()


def asked(prefix: str, cancelled_at_s: float = 60.0, truth: str = "ab") -> Asked:
    return Asked(0.0, cancelled_at_s, prefix, "\n", truth)


def person(*requests: Asked) -> Session:
    return Session("a.py", asked("open"), requests)


def test_an_answer_has_its_times_its_tokens_and_whether_it_was_right():
    server = Server()
    with running(server) as url:
        found = replay(url, [person(asked("x"), asked("x", truth="other"))], [{}])
    right, wrong = found.answers
    assert 0 < right.first_s <= right.line_s <= right.ended_s
    assert (right.text, right.received, right.predicted, right.prompt_tokens) == ("ab", 2, 3, 7)
    assert (right.right, wrong.right) == (True, False)
    assert len(found.opened_s) == 1
    assert [each["n_predict"] for each in server.bodies] == [1, 48, 48]


def test_the_editor_leaves_at_the_next_key():
    server = Server()
    with running(server) as url:
        (answer,) = replay(url, [person(asked("hang", 3.0))], [{}]).answers
        assert server.left.wait(60)
    assert (answer.line_s, answer.predicted) == (None, None)


def test_a_server_that_refuses_ends_the_run():
    with running(Server("503 Service Unavailable")) as url, pytest.raises(RuntimeError, match="503 from"):
        replay(url, [person(asked("x"))], [{}])
