"""One host as a machine: booted by systemd-nspawn, entered, waited for, and killed.

A host starts in a mount namespace of its own with a cgroup2 mount, so that neither a systemd on this machine nor its
cgroup controllers are needed; and in its own network namespace, so that its /sys/class/net is its own.
"""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from testing.lab import network
from testing.lab.namespaces import FOLDER as NAMESPACES
from testing.lab.processes import LabError, ProcessId, is_reached, run
from testing.lab.record import Host, LabFolder, Record

CGROUP = "ai-assist-lab"  # the lab's own branch of the cgroup2 tree
# What a guest may do beyond systemd-nspawn's default set; without bpf, IPAddressDeny= has no effect.
_CAPABILITIES = "CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON"
_BOOT_S, _KILL_S = 300.0, 60.0
_QUOTED = 1500
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUPERVISOR = """
set -e
[ -d "$ROOT" ]
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Another lab may remove the empty folder above in just that moment.
tries=0
until mkdir -p "$CG" && echo $$ >"$CG/cgroup.procs"; do tries=$((tries + 1)); [ $tries -lt 50 ]; sleep 0.1; done
# systemd-nspawn's own locks and sockets, which it would leave behind.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount -t overlay overlay -o "$OVERLAY" "$ROOT"
set +e
# 133: the host has rebooted.
while nsenter --net="$NETNS" systemd-nspawn "$@"; r=$?; [ $r = 133 ]; do :; done
exit $r
"""


def boot(lab: LabFolder, record: Record, host: Host) -> None:
    """Start a host; ``wait`` waits until it is up."""
    network.attach(lab, host)
    kill(lab, Host(host.name))  # what a killed systemd-nspawn may have left running
    folder = lab.host(host.name)
    # An overlay that is mounted "volatile" (without dpkg's syncs) can't be mounted again with the same work folder.
    run("rm", "-rf", folder / "work")
    (folder / "work").mkdir()
    layers = [str(lab.settings.layer(host.layer))] if host.layer else []
    lower = ":".join([*layers, str(record.image)])
    environment = {
        "PATH": os.environ["PATH"],
        "CG": f"/sys/fs/cgroup/{CGROUP}/{lab.name}/{host.name}",
        "ROOT": f"{folder}/root",
        "NETNS": f"{NAMESPACES}/{lab.namespace(host.name)}",
        "OVERLAY": f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work,volatile",
    }
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SUPERVISOR, "sh"]
    with (folder / "nspawn.log").open("ab") as log:
        started = subprocess.Popen(
            [*argv, *_nspawn_options(lab, host)], env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    host.process = ProcessId.of(started.pid)


def _nspawn_options(lab: LabFolder, host: Host) -> list[str]:
    return [
        "--quiet", "--boot", f"--directory={lab.host(host.name)}/root", f"--machine={lab.name}-{host.name}",
        f"--hostname={host.name}", "--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3",
        f"--capability={_CAPABILITIES}", "--system-call-filter=bpf", "--console=pipe", "--link-journal=no",
        "--resolv-conf=off", "--timezone=off", "systemd.log_target=journal", "systemd.show_status=0",
    ]  # fmt: skip


def leader(host: Host) -> int | None:
    """Return the pid, on this machine, of the host's PID 1; after a reboot of the host it is another one."""
    # The supervisor's shell, its child systemd-nspawn, and that one's child.
    todo = [host.process.pid] if host.process else []
    for pid in todo:
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if _is_first(child):
                    return int(child)
                todo.append(int(child))
    return None


def _is_first(pid: str) -> bool:
    """Return whether a process is PID 1 of a namespace below this one's."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                pids = line.split()[1:]
                return len(pids) > 1 and pids[-1] == "1"
    return False


def enter_argv(host: Host, *command: str) -> list[str]:
    """Return a command line that runs ``command`` in a host as root, without SSH; LabError if the host is down."""
    pid = leader(host)
    if pid is None:
        raise LabError(f"{host.name} isn't running")
    environment = (f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}")
    enter = ("nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w")
    return [*enter, "env", "-i", *environment, *command]


def enter(host: Host, *command: str, check: bool = True, stdin: str | None = None) -> str:
    """Run a command in a host and return what it prints on standard output."""
    return run(*enter_argv(host, *command), check=check, stdin=stdin).stdout


def wait(lab: LabFolder, host: Host) -> str:
    """Wait until a host has started everything; return its state, with the units that failed.

    Raises LabError when it ends before, or is not up after five minutes.
    """
    log = lab.host(host.name) / "nspawn.log"
    end = time.monotonic() + _BOOT_S
    while time.monotonic() < end:
        if not host.is_alive:
            raise LabError(f"{host.name} ended while it started:\n{log.read_text()[-_QUOTED:]}")
        with suppress(LabError):
            state = state_of(host)
            if state in {"running", "degraded"}:
                failed = enter(host, "systemctl", "--failed", "--plain", "--no-legend", check=False).split()
                return f"{state}: {' '.join(failed)}" if state == "degraded" else state
        time.sleep(0.1)
    raise LabError(f"{host.name} isn't up after {_BOOT_S:.0f} s:\n{log.read_text()[-_QUOTED:]}")


def state_of(host: Host) -> str:
    """Return what systemd says of itself in a host; raises LabError when the host is down."""
    return enter(host, "systemctl", "is-system-running", check=False).strip()


def power_off(host: Host) -> None:
    """Shut a running host down in order."""
    if leader(host):
        enter(host, "systemctl", "poweroff", check=False)
        is_reached(lambda: not host.is_alive, _KILL_S)


def kill(lab: LabFolder, host: Host) -> None:
    """Stop a host at once: it is thrown away, so there is nothing to shut down in order."""
    group = cgroup_of(lab) / host.name

    def ended() -> bool:
        # Each time, as a supervisor that has just been started joins its group a moment later.
        with suppress(OSError):
            (group / "cgroup.kill").write_text("1")
        return not host.is_alive

    if not is_reached(ended, _KILL_S):
        raise LabError(f"{host.name}: its supervisor, {host.process}, doesn't end")
    # The processes are gone a moment before their groups can be removed.
    if not is_reached(lambda: _removed(group), _KILL_S):
        raise LabError(f"{group} can't be removed: a process in it doesn't end")


def _removed(group: Path) -> bool:
    """Remove a cgroup and those in it; return whether it is gone."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()


def cgroup_of(lab: LabFolder) -> Path:
    """Return where the lab's branch of the cgroup2 tree is, seen from outside the hosts' mount namespaces."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder) / CGROUP / lab.name
    # A machine with the first version alone: a mount of the labs' own.
    mount = own_cgroup_mount(lab)
    mount.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "cgroup2", "cgroup2", mount)
    return mount / CGROUP / lab.name


def own_cgroup_mount(lab: LabFolder) -> Path:
    """Return where the labs mount cgroup2 on a machine that has it nowhere."""
    return lab.settings.state / ".cgroup2"
