"""G10, G11: bodies that are too big, compressed, lying or malformed; memory stays flat and nothing is a 5xx."""

import contextlib
import gzip
import json
import socket
import threading

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import COMPLETIONS, Gateway, read_all, request_bytes
from tests.integration.faults.conftest import StartGateway

CAP = 1024 * 1024
MIB = 1024 * 1024


@pytest.fixture
def gateway(fake_triton: FakeTritonThread, start_gateway: StartGateway) -> Gateway:
    started = start_gateway(fake_triton.address, max_body_bytes=CAP)
    started.until_ready()
    started.complete()
    return started


def memory(gateway: Gateway) -> int:
    return int(gateway.process.memory_info().rss)


def send_big(gateway: Gateway, total: int, *, chunked: bool) -> tuple[bytes, int]:
    """Send a body of ``total`` bytes; return the answer and how many bytes the gateway took."""
    connection = gateway.connect()
    kind = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total}"
    connection.sendall(f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\n{kind}\r\n\r\n".encode())
    answer: list[bytes] = []
    reader = threading.Thread(target=lambda: answer.append(read_all(connection)))
    reader.start()
    piece, sent = b"x" * 65536, 0
    frame = b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
    try:
        while sent < total:
            connection.sendall(frame)
            sent += len(piece)
    except OSError:
        pass
    reader.join()
    connection.close()
    return answer[0], sent


@pytest.mark.parametrize("chunked", [False, True])
def test_200_megabytes_are_refused_and_not_kept(gateway: Gateway, *, chunked: bool) -> None:
    before = memory(gateway)
    for _ in range(2):
        answer, _ = send_big(gateway, 200 * MIB, chunked=chunked)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"request_too_large" in answer
    assert memory(gateway) - before < 2 * CAP + 8 * MIB
    assert gateway.complete().status_code == 200


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
def test_one_byte_over_the_limit_is_over_it(gateway: Gateway, extra: int, status: int) -> None:
    body = json.dumps({"prompt": "", "max_tokens": 1}).encode()
    padded = body[:-1] + b" " * (CAP + extra - len(body)) + b"}"
    assert httpx.post(gateway.url + COMPLETIONS, content=padded, timeout=120).status_code == status


def test_a_gzip_bomb_is_refused_unopened(gateway: Gateway) -> None:
    before = memory(gateway)
    bomb = gzip.compress(b"\0" * (100 * MIB))
    answer = httpx.post(
        gateway.url + COMPLETIONS, content=bomb, headers={"Content-Encoding": "gzip"}, timeout=120
    )
    assert answer.status_code == 415
    assert memory(gateway) - before < 2 * CAP + 8 * MIB


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: abc\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Transfer-Encoding: gzip, chunked\r\nContent-Encoding: gzip\r\n",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 2\r\nBad Header: x\r\n",
        b"X-A: " + b"y" * 200_000 + b"\r\n",
    ],
)
def test_a_lying_head_is_a_4xx_and_the_connection_ends(gateway: Gateway, head: bytes) -> None:
    connection = gateway.connect()
    connection.settimeout(60)
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n{}\r\n\r\n")
    with contextlib.suppress(OSError):  # the gateway may have hung up already
        connection.shutdown(socket.SHUT_WR)
    answer = read_all(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert gateway.complete().status_code == 200


MALFORMED = {
    "empty": b"",
    "not json": b"{",
    "a string": b'"prompt"',
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "lone surrogate in broken json": b'{"prompt": "\\ud800", }',
    "surrogate in utf-8": b'{"prompt": "\xed\xa0\x80"}',
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "infinite": b'{"prompt": "a", "temperature": 1e999}',
    "huge integer": b'{"prompt": "a", "max_tokens": ' + b"9" * 6000 + b"}",
    "negative": b'{"prompt": "a", "max_tokens": -1}',
    "utf-16": '{"prompt": "a"}'.encode("utf-16"),
    "bad utf-8": b'{"prompt": "\xff"}',
    "wrong type": b'{"prompt": {"a": 1}}',
    "prompt of mixed types": b'{"prompt": [1, "a"]}',
    "token out of vocabulary": b'{"prompt": [4294967296]}',
    "stop of numbers": b'{"prompt": "a", "stop": [1]}',
    "n of zero": b'{"prompt": "a", "n": 0}',
    "n of a million": b'{"prompt": "a", "n": 1000000}',
    "logit_bias": b'{"prompt": "a", "logit_bias": {"x": "y"}}',
}


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/engines/codegen/completions", "/infill", "/completion"]
)
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_body_is_the_clients_error(shared_gateway: Gateway, path: str, name: str) -> None:
    answer = httpx.post(shared_gateway.url + path, content=MALFORMED[name], timeout=120)
    harmless = {"negative", "n of zero", "n of a million", "logit_bias", "stop of numbers"}
    allowed = range(400, 500) if name not in harmless and path.startswith("/v1") else range(200, 500)
    assert answer.status_code in allowed, answer.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "prompt",
    "max_tokens",
    "n",
    "stop",
    "temperature",
    "top_p",
    "logprobs",
    "seed",
    "suffix",
    "echo",
    "model",
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6) | JSON)
def test_no_json_makes_the_gateway_fail(shared_gateway: Gateway, body: object) -> None:
    content = json.dumps(body).encode()
    answer = httpx.post(shared_gateway.url + COMPLETIONS, content=content, timeout=120)
    assert answer.status_code < 500, answer.text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_no_bytes_make_the_gateway_fail(shared_gateway: Gateway, content: bytes) -> None:
    connection = shared_gateway.connect()
    connection.sendall(request_bytes(content, extra="Connection: close\r\n"))
    assert read_all(connection).startswith(b"HTTP/1.1 4")
    connection.close()
