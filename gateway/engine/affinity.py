"""Which requests go to the server that has read the beginning of their prompt already.

An editor asks again and again about one file, and a server answers soonest where its cache holds that file. A
name for caller and beginning is therefore hashed to a server (``channel.py``). Beginnings that many requests
share, such as a system prompt behind one key, may not fill one server: beyond a few requests at once, the
others go to any.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

from gateway.engine.base import GenerateRequest

# Tokens: less is read again soon, and a file's first lines do not change while somebody types below them.
_BEGINNING = 32
# Requests at once: one that is answered, and those that an editor has just left.
_AT_ONCE = 4


class Affinity:
    """Names of the beginnings of prompts, and how many requests of each are under way."""

    def __init__(self) -> None:
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def name(self, request: GenerateRequest) -> Iterator[str | None]:
        """Yield the request's name for as long as it is under way, or ``None``: any server."""
        name = None if request.caller is None else _name(request.caller, request.prompt_ids)
        if name is None or self._under_way[name] >= _AT_ONCE:
            yield None
            return
        self._under_way[name] += 1
        try:
            yield name
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]


def _name(caller: str, ids: Sequence[int]) -> str:
    beginning = ",".join(map(str, ids[:_BEGINNING]))
    return blake2b(f"{caller} {beginning}".encode(), digest_size=16).hexdigest()
