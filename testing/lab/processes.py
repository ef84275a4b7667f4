"""Programs, processes and locks of this machine, as the lab uses them."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# How much of a failed program's output an error quotes.
_QUOTED = 2000
_PAUSE_S = 0.05


class LabError(Exception):
    """What a lab can't do, with the reason."""


def run(
    *command: str | Path,
    check: bool = True,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and return its output; raises LabError when it fails and ``check`` is set."""
    argv = [str(part) for part in command]
    done = subprocess.run(
        argv, input=stdin, env=env, timeout=timeout_s, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()[-_QUOTED:]
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}\n{said}")
    return done


@dataclass(frozen=True)
class ProcessId:
    """One process: a pid and the kernel's start time, which a later process of that pid does not share."""

    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Identify a running process, this one's child for instance."""
        return cls(pid, _stat(pid)[19])

    @property
    def is_alive(self) -> bool:
        """Return whether the process runs; a zombie does not."""
        try:
            fields = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False
        return fields[0] not in "ZX" and fields[19] == self.start


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the third on: the second, the name, may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def is_reached(condition: Callable[[], object], within_s: float) -> bool:
    """Wait until ``condition`` returns something true; return whether it did within so many seconds."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_PAUSE_S)
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file for as long as the block lasts, among processes and threads.

    The file, and the folder that it lies in, may be removed by whoever holds the lock.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except FileNotFoundError:
            continue
        except FileExistsError:
            # Path.mkdir() says so, too, where the folder was there at first and gone when it looked again.
            if path.parent.exists() and not path.parent.is_dir():
                raise
            continue
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(path, file.fileno()):
                yield
                return


def _is_still(path: Path, descriptor: int) -> bool:
    """Return whether ``path`` is the open file; it isn't once the holder before has removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
