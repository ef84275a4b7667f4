"""Getting what is missing: Debian's packages, official releases, else programs built from their modules."""

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from testing.tools import debian, download, golang
from testing.tools.find import locate
from testing.tools.kits import Kit, Package, kits
from testing.tools.store import discard, folder_of, staged

# Fetched when something has to be compiled, and never for its own sake.
ON_DEMAND = "go"


@dataclass
class Plan:
    """What is missing, and how it would be fetched."""

    packages: list[Package]
    kits: list[Kit]
    # auto, releases or go
    source: str
    _reachable: dict[str, bool] = field(default_factory=dict)

    def how(self, kit: Kit) -> str:
        """Return where a kit would come from: debian, releases or go.

        Releases are chosen where all their servers can be reached, unless ``source`` says otherwise.
        """
        if kit.debian:
            return "debian"
        if not kit.released:
            return "go"
        if not kit.modules or self.source == "releases":
            return "releases"
        if self.source == "go":
            return "go"
        return "releases" if all(self._answers(url) for url in download.release_hosts(kit)) else "go"

    def _answers(self, url: str) -> bool:
        host = url.split("/")[2]
        if host not in self._reachable:
            self._reachable[host] = download.is_reachable(url)
        return self._reachable[host]


def plan(source: str, only: Iterable[str] = ()) -> Plan:
    """Return what is missing of ``only``, or of everything.

    Raises:
        KeyError: For the name of a kit that does not exist.

    """
    chosen = [kits()[name] for name in only] or [kit for kit in kits().values() if kit.name != ON_DEMAND]
    packages = [] if only else debian.missing_packages()
    return Plan(packages, [kit for kit in chosen if locate(kit) is None], source)


def get_kit(kit: Kit, planned: Plan) -> Path:
    """Fetch one kit, whole or not at all, and return its folder.

    Raises:
        RuntimeError, download.UnreachableError, download.MismatchError, golang.BuildError: Each says what to do.

    """
    how, say = planned.how(kit), download.progress(kit.name)
    if how != "debian" and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise RuntimeError(
            f"{kit.name} is pinned for Linux on x86-64; put its programs on PATH by other means"
        )
    with staged(kit) as target:
        if target is not None:
            _fill(kit, how, target, planned, say)
    return folder_of(kit)


def _fill(kit: Kit, how: str, target: Path, planned: Plan, say: download.Say) -> None:
    if how == "debian":
        debian.unpack(kit, target)
    elif how == "go":
        golang.build_kit(_go(planned), kit, target, say)
    else:
        try:
            download.fetch_kit(kit, target, say)
        except download.UnreachableError as error:
            if not kit.modules or planned.source == "releases":
                raise
            say(f"{error}; building it from its modules instead")
            # What came before the failure must not stand beside what is built.
            discard(target)
            target.mkdir()
            golang.build_kit(_go(planned), kit, target, say)


def _go(planned: Plan) -> Path:
    """Return a Go that compiles, fetched where there is none."""
    if found := golang.find_go():
        return found
    try:
        get_kit(kits()[ON_DEMAND], planned)
    except download.UnreachableError as error:
        raise RuntimeError(
            f"Go is missing and could not be fetched ({error}); unpack https://go.dev/dl to /usr/local/go, or put "
            f"a Go of version {kits()[ON_DEMAND].version} on PATH"
        ) from error
    if found := golang.find_go():
        return found
    raise RuntimeError("the Go that was fetched does not run on this machine")
