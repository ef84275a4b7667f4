"""Processes that outlive the command that starts them: each has a log and a file with its process id."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from testing.cluster.errors import ClusterError, PortTakenError

_TAIL = 15


class Processes:
    """The processes of one cluster. ``wrap`` turns a command into one that runs where the cluster runs.

    ``tied``: the kernel ends them when the process that starts them ends, however that happens.
    """

    def __init__(self, folder: Path, wrap: Callable[[list[str]], list[str]] = list) -> None:
        self.pids, self.logs = folder / "pids", folder / "logs"
        self.tied = False
        self._wrap = wrap
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, *command: str | Path, here: bool = False, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start a process where it does not run yet; ``here`` is outside of what ``wrap`` leads to."""
        if self.is_running(name):
            return
        self.pids.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        argv = [str(part) for part in command]
        argv = argv if here else self._wrap(argv)
        if self.tied:
            argv = [*_tied_to(os.getpid()), *argv]
        with (self.logs / f"{name}.log").open("w") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(variables or {}),
                start_new_session=True,
            )
        self._children[name] = child
        begun = _begun(child.pid) or 0
        (self.pids / name).write_text(f"{child.pid} {begun}")

    def pid(self, name: str) -> int | None:
        """Return a running process's id."""
        try:
            pid, begun = (int(word) for word in (self.pids / name).read_text().split())
        except (OSError, ValueError):
            return None
        if child := self._children.get(name):
            child.poll()
        # An id is given again: only one that began when ours did is ours.
        return pid if _begun(pid) == begun else None

    def is_running(self, name: str) -> bool:
        """Return whether that process runs."""
        return self.pid(name) is not None

    def names(self) -> list[str]:
        """Return what has been started, running or not."""
        return sorted(file.name for file in self.pids.glob("*"))

    def kill(self, names: Iterable[str], within_s: float = 60) -> None:
        """End processes at once: their state is thrown away. Returns when they have gone."""
        killed = list(names)
        for name in killed:
            if pid := self.pid(name):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + within_s
        while any(self.is_running(name) for name in killed) and time.monotonic() < end:
            time.sleep(0.02)
        for name in killed:
            if child := self._children.pop(name, None):
                child.wait(timeout=within_s)

    def wait_for(
        self, what: str, reached: Callable[[], object], needs: Iterable[str] = (), within_s: float = 300
    ) -> None:
        """Return once ``reached`` is true.

        Raises:
            PortTakenError: Where a process that it needs has ended, as its port was taken.
            ClusterError: Where one has ended for another reason, or after ``within_s`` seconds.

        """
        end = time.monotonic() + within_s
        while not reached():
            for name in needs:
                if not self.is_running(name):
                    raise self._ended(name)
            if time.monotonic() > end:
                ended = [str(self._ended(name)) for name in self.names() if not self.is_running(name)]
                raise ClusterError("\n".join([f"gave up waiting for {what} after {within_s:.0f} s", *ended]))
            time.sleep(0.1)

    def require_port(self, name: str) -> None:
        """Raise where a process has ended as its port was taken.

        Raises:
            PortTakenError: With what the process says.
        """
        if (self.logs / f"{name}.log").exists() and not self.is_running(name):
            error = self._ended(name)
            if isinstance(error, PortTakenError):
                raise error

    def _ended(self, name: str) -> ClusterError:
        lines = (self.logs / f"{name}.log").read_text(errors="replace").splitlines()[-_TAIL:]
        text = "\n".join([f"{name} has ended:", *lines])
        return PortTakenError(text) if "address already in use" in text else ClusterError(text)


def _tied_to(parent: int) -> list[str]:
    """Return what starts a command that ends with its parent.

    The kernel signals a parent's death to those alone who asked before it (PR_SET_PDEATHSIG(2const)): a command whose
    parent has ended by then must not begin.
    """
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", f'[ "$PPID" = {parent} ] && exec "$@"', "sh"]


def _begun(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None where it has ended, reaped or not."""
    try:
        # The command's name may hold anything, brackets included.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
