"""Read a small answer of an authentication provider, within a bound of bytes."""

import httpx

MAX_ANSWER_BYTES = 64 * 1024


async def get(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Return the status and body of a GET; a longer body than ``MAX_ANSWER_BYTES`` counts as an empty 502."""
    async with client.stream("GET", url, headers={"Accept": "application/json", **headers}) as response:
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                return 502, b""
        return response.status_code, body
