"""Where a lab keeps its files and what its hosts are made of, from the environment's ``LAB_*`` variables."""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from testing.lab.processes import LabError

# What every host has; the cache holds one image for each such list.
PACKAGES = (
    "systemd-sysv,dbus,libpam-systemd,openssh-server,python3,python3-apt,sudo,iproute2,"
    "ca-certificates,procps,iputils-ping,nftables"
)
SUBNET = "10.77.0"
GATEWAY = f"{SUBNET}.1"
PROXY_PORT = 3142
_APT = Path("/etc/apt")
_URI = re.compile(r"^(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s+)?)(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class LabSettings:
    """The settings of the labs of one cache and one state folder.

    ``cache`` keeps images, layers and packages; ``state`` has one folder for each lab. The path of ``state`` must
    be short: ssh's sockets lie in it, and the path of a socket has room for 108 characters.
    """

    cache: Path = Path.home() / ".cache/ai-assist/lab"
    state: Path = Path("/var/tmp/ai-assist-lab")
    wheels: Path | None = None
    suite: str = "bookworm"
    components: str = "main"

    @classmethod
    def from_environment(cls) -> "LabSettings":
        """Read ``LAB_CACHE``, ``LAB_STATE``, ``LAB_WHEELS``, ``LAB_SUITE`` and ``LAB_COMPONENTS``."""
        given = os.environ
        return cls(
            cache=Path(given.get("LAB_CACHE") or cls.cache),
            state=Path(given.get("LAB_STATE") or cls.state),
            wheels=Path(given["LAB_WHEELS"]).resolve() if given.get("LAB_WHEELS") else None,
            suite=given.get("LAB_SUITE") or cls.suite,
            components=given.get("LAB_COMPONENTS") or cls.components,
        )

    def variables(self) -> dict[str, str]:
        """Return the environment variables from which a process reads these settings."""
        return {
            "LAB_CACHE": str(self.cache),
            "LAB_STATE": str(self.state),
            "LAB_WHEELS": str(self.wheels or ""),
            "LAB_SUITE": self.suite,
            "LAB_COMPONENTS": self.components,
        }

    def layer(self, name: str) -> Path:
        """Return the folder of a kept layer, whether it exists or not."""
        return self.cache / "layers" / name


@cache
def archives() -> tuple[str, str]:
    """Return the Debian archive and the security archive that this machine's apt sources name.

    Raises LabError where no archive is named.
    """
    files = [_APT / "sources.list", *sorted((_APT / "sources.list.d").glob("*"))]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    uris = [uri.rstrip("/") for uri in _URI.findall(text)]
    archive = next((uri for uri in uris if "security" not in uri), "")
    if not archive:
        raise LabError(f"{_APT} names no Debian archive: add a source, as hosts are made of its packages")
    return archive, next((uri for uri in uris if "security" in uri), archive + "-security")


@cache
def archive_hosts() -> frozenset[str]:
    """Return the hosts whose files the proxy passes on and keeps: those of the archives."""
    return frozenset(urlsplit(uri).netloc for uri in archives())


@cache
def connect_hosts() -> frozenset[str]:
    """Return the hosts to which guests may open a tunnel: ``LAB_CONNECT_HOSTS``, or where pip looks by default.

    Empty where the variable is not set and this Python has no pip.
    """
    named = os.environ.get("LAB_CONNECT_HOSTS")
    if named is not None:
        return frozenset(named.split())
    try:
        from pip._internal.models.index import PyPI
    except ImportError:
        return frozenset()
    return frozenset({PyPI.netloc, PyPI.file_storage_domain})


def sources_list(settings: LabSettings) -> str:
    """Return a guest's ``sources.list``: the suite, its updates and its security updates."""
    archive, security = archives()
    suite = settings.suite
    rows = ((archive, suite), (archive, f"{suite}-updates"), (security, f"{suite}-security"))
    return "".join(f"deb {uri} {name} {settings.components}\n" for uri, name in rows)
