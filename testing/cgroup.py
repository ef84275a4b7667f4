"""A control group with a memory limit, version 1 or 2, whichever the machine has."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from testing import needs

MIB = 2**20
_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryGroup:
    """The group's folder. Swap does not count: where the machine has some, it is switched off for the group."""

    folder: Path

    @property
    def _first(self) -> bool:
        return (self.folder / "memory.limit_in_bytes").exists()

    def limit(self, mib: int) -> None:
        """Set the limit of all processes in the group together."""
        name = "memory.limit_in_bytes" if self._first else "memory.max"
        (self.folder / name).write_text(str(mib * MIB))
        with contextlib.suppress(OSError):
            (self.folder / "memory.swap.max").write_text("0")

    def wrapped(self, argv: Sequence[str]) -> list[str]:
        """Return the argv of a process that joins the group and then becomes ``argv``."""
        join = f'echo $$ > {self.folder}/cgroup.procs && exec "$@"'
        return ["sh", "-c", join, "sh", *argv]

    @property
    def peak_mib(self) -> int:
        """The most that the group has held, file pages that could have been dropped included."""
        name = "memory.max_usage_in_bytes" if self._first else "memory.peak"
        return -(-int((self.folder / name).read_text()) // MIB)

    @property
    def held_mib(self) -> int:
        """What the processes have now: their own pages, and those of files that they have mapped."""
        names = ("total_rss", "total_mapped_file") if self._first else ("anon", "file_mapped")
        entries = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        return -(-sum(int(entries[name]) for name in names) // MIB)

    @property
    def killed(self) -> int:
        """The number of processes that the kernel killed for memory."""
        name = "memory.oom_control" if self._first else "memory.events"
        entries = dict(line.split() for line in (self.folder / name).read_text().splitlines())
        return int(entries["oom_kill"])


@contextlib.contextmanager
def memory_group(mib: int) -> Iterator[MemoryGroup]:
    """Give a new group of ``mib`` MiB; skip the calling test where this user cannot make one."""
    folder = _own() / f"ai-assist-{uuid4().hex[:12]}"
    try:
        folder.mkdir()
        group = MemoryGroup(folder)
        group.limit(mib)
    except OSError as error:
        needs.skip(f"a control group cannot be made here ({error})", needs.PRIVILEGED)
    try:
        yield group
    finally:
        _remove(folder)


def _own() -> Path:
    """Return the folder of this process's group, or the root's in a container that does not show its own."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        root = _V1 if controllers == "memory" else _V2 if (_V2 / "cgroup.controllers").exists() else None
        if root is not None:
            own = root / path.lstrip("/")
            return own if own.is_dir() else root
    return _V1


def _remove(folder: Path) -> None:
    """Remove the group once the kernel has forgotten its last process."""
    deadline = time.monotonic() + 60
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
