"""What a host is made of, so that two moments can be compared: packages, users, units, files, rules, ports."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from testing.lab.driver import Lab

# Caches and logs are not what a host is; keys of apt, random seeds and identifiers differ from boot to boot.
_SKIPPED = (
    "/var/cache", "/var/log", "/var/lib/apt", "/var/lib/systemd", "/var/lib/dpkg", "/var/tmp", "/var/backups",
    "/root/.ssh", "/home",
)  # fmt: skip
# Written anew by dpkg and ldconfig with another order or time, and holding nothing of their own.
_DERIVED = ("/etc/ld.so.cache", "/usr/share/info/dir", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-",
            "/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock", "/etc/.updated", "/var/.updated")  # fmt: skip
_QUESTIONS = {
    "package": r"dpkg-query --show --showformat='${db:Status-Abbrev} ${Package} ${Version}\n'",
    "manual": "apt-mark showmanual",
    "user": "cut -d: -f1,3,4,6,7 /etc/passwd",
    "group": "cut -d: -f1,3,4 /etc/group",
    "unit": "systemctl list-unit-files --no-legend --plain | awk '{print $1, $2}' | grep -v ^session-",
    # Without what systemd does once, in the first boot of an image (ConditionNeedsUpdate).
    "active": "systemctl list-units --state=active,failed --type=service,socket,timer --no-legend --plain"
    " | awk '{print $1, $4}' | grep -v -E '^(user|ldconfig|systemd-(journal-catalog-update|sysusers|update-done))'",
    "rule": "nft list ruleset",
    "port": "ss --no-header --listening --tcp --udp --numeric | awk '{print $1, $5}'",
}


def state(lab: Lab, host: str) -> set[str]:
    """Return one line for each thing a host is made of, with a digest of every file outside /usr."""
    found = set()
    for kind, command in _QUESTIONS.items():
        found |= {f"{kind} {line}" for line in lab.run(host, command).splitlines() if line.strip()}
    pruned = " -o ".join(f"-path {path}" for path in _SKIPPED)
    # What lies in /usr is the packages', so that there the names are enough.
    listing = lab.run(
        host,
        f"find /etc /opt /var /srv /root /home -xdev \\( {pruned} \\) -prune -o \\( -type f -size -200k -print0 \\)"
        " | xargs -0 sha256sum; "
        f"find /etc /opt /usr /var /srv /root -xdev \\( {pruned} \\) -prune -o -printf '%y %m %u %p %l\\n'",
        timeout=300,
    )
    return found | {f"file {line}" for line in listing.splitlines() if not line.rstrip().endswith(_DERIVED)}


# What a service writes while it runs, and what an installer looked up: no two moments have the same.
_WRITTEN = ("/var/lib/ai-assist/redis-queue/", "/opt/ai-assist/packages/")
# Made at random on each host, so that of two hosts (or of one, twice) only the names and modes are the same.
_RANDOM = (
    "/etc/ai-assist/secrets/", "/etc/ai-assist/tls/", "/etc/ai-assist/redis/", "/etc/ai-assist/keys/",
    "/etc/systemd/system/ai-assist-", "/etc/machine-id", "/etc/ssh/ssh_host_",
)  # fmt: skip
_COUNTED = re.compile(r"counter packets \d+ bytes \d+")
_DIGEST = re.compile(r"file [0-9a-f]{64}  ")


def settled(found: set[str], *, secrets: bool = True) -> set[str]:
    """Return ``found`` without what changes by itself: counters, queued data, caches.

    Without ``secrets``, that a secret is there and whose it is counts, and not what it says. Bytecode holds the
    time at which its source was installed.
    """
    unread = ("/__pycache__/", *(() if secrets else _RANDOM))
    kept = (
        line for line in found if not (line.startswith("file ") and any(map(line.__contains__, _WRITTEN)))
    )
    return {
        _COUNTED.sub("counter", line)
        for line in kept
        if not (_DIGEST.match(line) and any(map(line.__contains__, unread)))
    }


def units(lab: Lab, host: str) -> str:
    """Return the text of every unit, without the digest of what it is started from, as secrets are part of that."""
    return lab.run(
        host, "cd /etc/systemd/system && grep . ai-assist-* | sed -E 's/[0-9a-f]{16}\\.[0-9a-f]{16}/DIGEST/'"
    )


def states(lab: Lab, hosts: Iterable[str]) -> dict[str, set[str]]:
    """Return the state of several hosts, looked at together."""
    names = list(hosts)
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: state(lab, name), names), strict=True))


def starts(lab: Lab, running: dict[str, list[str]]) -> dict[str, str]:
    """Return what identifies each start of each unit, by host and unit; two starts of one differ."""
    return {
        f"{name} {unit}": lab.run(name, f"systemctl show ai-assist-{unit} -P InvocationID").strip()
        for name, units in running.items()
        for unit in units
    }
