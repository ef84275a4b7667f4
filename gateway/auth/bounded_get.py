"""Read a small response of an authentication provider, of a bounded number of bytes."""

import httpx

MAX_RESPONSE_BYTES = 64 * 1024


async def get(client: httpx.AsyncClient, url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Return the status and body of a GET; a body over ``MAX_RESPONSE_BYTES`` counts as an empty 502.

    Raises httpx's errors when the server cannot be reached.
    """
    async with client.stream("GET", url, headers={"Accept": "application/json", **headers}) as response:
        body = b""
        async for part in response.aiter_bytes():
            body += part
            if len(body) > MAX_RESPONSE_BYTES:
                return 502, b""
        return response.status_code, body
