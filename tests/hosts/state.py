"""What a host is made of, so that two moments can be compared: packages, users, units, files, rules, ports."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tests.hosts.lab import Lab

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


def states(lab: Lab, hosts: Iterable[str]) -> dict[str, set[str]]:
    """Return the state of several hosts, looked at together."""
    names = list(hosts)
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: state(lab, name), names), strict=True))
