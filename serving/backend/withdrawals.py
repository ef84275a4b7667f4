"""Requests that their clients have withdrawn, noted where every instance of a model sees it.

A client withdraws a streamed request with a second request on the same stream. Cancelling the call instead
makes Triton's gRPC front die or hang now and then (triton-inference-server/server issues 7368 and 7472; seen
with 2.51 once in about 3000 cancelled streams). Any instance may get that second request, and each is a
process of its own, so it leaves a note: an empty file beside the server's shared memory.
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from .requests import BadRequestError

PREFIX_VARIABLE = "ASSIST_SHM_PREFIX"
_FOLDER = Path("/dev/shm")  # noqa: S108 -- where the server's own shared memory lies, writable for it alone
_NAME = re.compile("[0-9a-f]{32}")
# Much longer than anybody needs to see a note, so that one whose request has ended already goes, too.
_KEPT_S = 5.0


class Withdrawals:
    """Notes of withdrawn requests. Names are 32 hexadecimal digits that the client chose at random."""

    def __init__(self) -> None:
        # The server's own prefix: what a killed server leaves goes with its shared memory.
        self._prefix = os.environ.get(PREFIX_VARIABLE, f"assist_triton_{os.getppid()}_")
        self._mine: deque[tuple[float, Path]] = deque()

    def note(self, name: str) -> None:
        """Note that a request is withdrawn, whichever instance has it. Raises ``BadRequestError``."""
        note = self._note(name)
        note.touch(mode=0o600)
        self._mine.append((time.monotonic(), note))
        self._forget(older_than_s=_KEPT_S)

    def asker(self, name: str | None) -> Callable[[], bool]:
        """Return what says whether a request is withdrawn; one without a name never is."""
        if name is None:
            return lambda: False
        return self._note(name).exists

    def close(self) -> None:
        """Remove this instance's notes."""
        self._forget(older_than_s=0)

    def _note(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BadRequestError("withdrawable and withdraw must be 32 hexadecimal digits")
        return _FOLDER / f"{self._prefix}withdrawn_{name}"

    def _forget(self, older_than_s: float) -> None:
        while self._mine and time.monotonic() - self._mine[0][0] >= older_than_s:
            self._mine.popleft()[1].unlink(missing_ok=True)
