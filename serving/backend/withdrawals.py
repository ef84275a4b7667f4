"""Requests that their clients have withdrawn, recorded where every instance of a model can see it.

A client withdraws a streamed request with a second request on the same stream. Cancelling the call instead
can crash or block Triton's gRPC front end (triton-inference-server/server issues 7368 and 7472; observed with
2.51 once in about 3000 cancelled streams). Any instance may receive the second request, and each instance is
a process of its own, so the withdrawal is recorded as an empty file beside the server's shared memory.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from .requests import BadRequestError

PREFIX_VARIABLE = "ASSIST_SHM_PREFIX"
_FOLDER = Path("/dev/shm")  # noqa: S108 -- where the server's own shared memory is, writable for it alone
_NAME = re.compile("[0-9a-f]{32}")
# Much longer than any instance needs to see it; a file whose request has already ended is removed, too.
_KEPT_S = 5.0


class Withdrawals:
    """Files of withdrawn requests. Names are 32 hexadecimal digits that the client chose at random."""

    def __init__(self) -> None:
        # The server's own prefix: the files of a killed server are removed with its shared memory.
        self._prefix = os.environ.get(PREFIX_VARIABLE, f"assist_triton_{os.getppid()}_")
        self._own: deque[tuple[float, Path]] = deque()

    def note(self, name: str) -> None:
        """Record that a request is withdrawn, on whichever instance it runs. Raises ``BadRequestError``."""
        path = self._path(name)
        path.touch(mode=0o600)
        self._own.append((time.monotonic(), path))
        self._remove(older_than_s=_KEPT_S)

    def check(self, name: str | None) -> Callable[[], bool]:
        """Return a function that returns whether the request is withdrawn; without a name it never is.

        Raises ``BadRequestError`` for an invalid name.
        """
        if name is None:
            return lambda: False
        return self._path(name).exists

    def close(self) -> None:
        """Remove the files of this instance."""
        self._remove(older_than_s=0)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BadRequestError("withdrawable and withdraw must be 32 hexadecimal digits")
        return _FOLDER / f"{self._prefix}withdrawn_{name}"

    def _remove(self, older_than_s: float) -> None:
        while self._own and time.monotonic() - self._own[0][0] >= older_than_s:
            self._own.popleft()[1].unlink(missing_ok=True)
