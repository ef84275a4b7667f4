"""A load generator with little overhead: raw HTTP/1.1 over open connections, in its own process.

``python -m benchmarks.support.load PORT CLIENTS SECONDS [KEY]`` prints one JSON object; every client
sends its next request after the response to its last (closed loop).
"""

import asyncio
import json
import statistics
import sys
import time

import uvloop

BODY = json.dumps({"prompt": "def fibonacci(n):\n    ", "max_tokens": 8, "temperature": 0}).encode()
HEAD = (
    "POST /v1/completions HTTP/1.1\r\nHost: bench\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)
REQUEST = HEAD.format(len(BODY)).encode() + BODY
_REFUSED_PAUSE_S = 0.02


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Send one request, read the whole response and return its status."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12])


async def client(port: int, end: float, times: list[float], errors: list[int], key: str) -> None:
    """Send requests until ``end``, with a short pause after each refusal."""
    request = (
        REQUEST.replace(b"Host:", f"Authorization: Bearer {key}\r\nHost:".encode(), 1) if key else REQUEST
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (started := time.perf_counter()) < end:
        if (status := await exchange(reader, writer, request)) != 200:
            errors.append(status)
            await asyncio.sleep(_REFUSED_PAUSE_S)
        times.append(time.perf_counter() - started)
    writer.close()


async def run(port: int, clients: int, seconds: float, key: str) -> dict[str, float]:
    """Load for ``seconds`` and return requests per second, latencies in ms, and errors."""
    times: list[float] = []
    errors: list[int] = []
    started = time.perf_counter()
    await asyncio.gather(*(client(port, started + seconds, times, errors, key) for _ in range(clients)))
    taken = time.perf_counter() - started
    cuts = statistics.quantiles(times, n=100)
    return {
        "rps": len(times) / taken,
        "p50_ms": cuts[49] * 1000,
        "p95_ms": cuts[94] * 1000,
        "p99_ms": cuts[98] * 1000,
        "errors": len(errors),
    }


if __name__ == "__main__":
    port, clients, seconds, key = (*sys.argv[1:], "")[:4]
    print(json.dumps(uvloop.run(run(int(port), int(clients), float(seconds), key))))
