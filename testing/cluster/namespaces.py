"""The real node's namespaces and cgroups: all that runs in them ends with one process."""

import hashlib
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from testing.cluster.errors import ClusterError

CGROUPS = Path("/sys/fs/cgroup")
HERE = Path(__file__).resolve().parent
# Of the CPU, beside one process of the machine's: all of a cluster is in this cgroup, not one program.
SHARE = 10
_HIERARCHIES = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
_NAMESPACES = ("-m", "-n", "-p", "-u", "-i", "-C")


def node_process(starter: int) -> int | None:
    """Return the id of the node's first process, the only child of ``starter``, which is `unshare`."""
    try:
        if Path(f"/proc/{starter}/comm").read_text() != "unshare\n":
            return None
        children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def enter(process: int) -> list[str]:
    """Return what runs a command in the node."""
    return ["nsenter", "-t", str(process), *_NAMESPACES, "--"]


class Cgroups:
    """The node's cgroup in every hierarchy of this machine: one tree (version 2), or one for each controller."""

    def __init__(self, state: Path) -> None:
        # Two kubelets in one cgroup end each other's pods.
        self._name = f"ai-assist-node-{hashlib.sha256(str(state).encode()).hexdigest()[:8]}"
        self._state = state
        self.unified = (CGROUPS / "cgroup.controllers").exists()

    @property
    def _hierarchies(self) -> list[str]:
        return [name for name in _HIERARCHIES if (CGROUPS / name).is_dir()]

    @property
    def folders(self) -> list[Path]:
        """Return the node's cgroups."""
        roots = [CGROUPS] if self.unified else [CGROUPS / name for name in self._hierarchies]
        return [root / self._name for root in roots]

    @property
    def members(self) -> list[Path]:
        """Return the files that take a process into the running node's cgroups."""
        inner = "system/cgroup.procs" if self.unified else "cgroup.procs"
        return [folder / inner for folder in self.folders]

    def make(self) -> None:
        """Make them, and note for the node's first process which kind they are."""
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
        if self.unified:
            (self._state / "unified").touch()
            for controller in (CGROUPS / "cgroup.controllers").read_text().split():
                # One that another cgroup holds stays where it is.
                with suppress(OSError):
                    (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
            with suppress(OSError):
                (self.folders[0] / "cpu.weight").write_text(str(100 * SHARE))
            return
        (self._state / "hierarchies").write_text("".join(f"{name}\n" for name in self._hierarchies))
        for folder in self.folders:
            if folder.parent.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (folder / name).write_text((folder.parent / name).read_text())
                (folder / "cgroup.clone_children").write_text("1")
            if folder.parent.name == "cpu":
                (folder / "cpu.shares").write_text(str(1024 * SHARE))
            if folder.parent.name == "memory":
                with suppress(OSError):
                    (folder / "memory.use_hierarchy").write_text("1")

    def hand_on(self, starter: int) -> None:
        """Let the node's own cgroups have the controllers; ``starter`` is the process that holds the node.

        A cgroup of version 2 hands controllers on only while no process is in itself.

        Raises:
            ClusterError: Where the kernel refuses.
        """
        if not self.unified:
            return
        (folder,) = self.folders
        try:
            (folder / "system/cgroup.procs").write_text(str(starter))
            for controller in (folder / "cgroup.controllers").read_text().split():
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            raise ClusterError(f"{folder} can't hand its controllers on: {error}") from error

    def remove(self, within_s: float = 30) -> None:
        """Remove them, once their last process has gone."""
        end = time.monotonic() + within_s
        while any(folder.exists() for folder in self.folders) and time.monotonic() < end:
            for folder in self.folders:
                for inner, _, _ in os.walk(folder, topdown=False):
                    with suppress(OSError):
                        Path(inner).rmdir()
            time.sleep(0.05)


def joining(members: list[Path], command: list[str]) -> list[str]:
    """Return a command that enters cgroups by their ``members`` files before it does what ``command`` does."""
    script = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 1; shift; done; shift; exec "$@"'
    return ["sh", "-c", script, "join", *map(str, members), "--", *command]


def unsharing(state: Path, cgroups: Cgroups, address: str) -> list[str]:
    """Return the command of the process that holds the node: killed, it takes all of the node with it."""
    # The cgroup namespace's root is the cgroup that a process is in when it makes the namespace.
    outer = [folder / "cgroup.procs" for folder in cgroups.folders]
    kinds = ("--cgroup", "--mount", "--net", "--pid", "--uts", "--ipc")
    init = [str(HERE / "node_init.sh"), str(state), address]
    return joining(outer, ["unshare", *kinds, "--fork", "--kill-child", "--mount-proc", *init])


def load_kernel_modules() -> None:
    """Load what a node needs, where the kernel has it as modules: nothing inside the node could."""
    with suppress(FileNotFoundError):
        subprocess.run(
            ["modprobe", "-qa", "overlay", "bridge", "br_netfilter"], capture_output=True, check=False
        )


def require_root() -> None:
    """Raise where this user can't make namespaces.

    Raises:
        ClusterError: Where the user is not root.

    """
    if os.geteuid() != 0:
        raise ClusterError("a real node needs root")
