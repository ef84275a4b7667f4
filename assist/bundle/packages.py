"""Debian packages, downloaded with apt, which checks the archive's signatures.

The result is a flat repository (sources.list(5)): its index consists of apt's records, so a host installs
from it with apt, dependencies included. The bundle's signature replaces the repository's.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from assist.bundle.errors import BundleError

_UPDATE = "Remedy: sudo apt-get update, on a machine of the hosts' Debian release"


def libpython_package(version: tuple[Any, ...]) -> str:
    """Return the Debian package of the library that Triton's backend embeds; Debian's python3 lacks it."""
    return "libpython{}.{}".format(*version)


def gather(names: tuple[str, ...], target: Path, *, depends: bool) -> dict[str, Path]:
    """Download the packages into ``target``, and return the files by their path in the bundle.

    With ``depends``, the result includes their dependencies on an empty Debian, and an index. Raises
    BundleError.
    """
    if not names:
        return {}
    versions = _closure(names) if depends else list(names)
    _apt(["download", "-qq", *versions], target)
    files = sorted(target.glob("*.deb"))
    if depends:
        index = target / "Packages"
        index.write_text("".join(_records(versions)), encoding="utf-8")
        files.append(index)
    return {f"debs/{file.name.replace('%3a', '.')}": file for file in files}


def release() -> str:
    """Return the Debian release of this machine, such as ``debian 12``."""
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    facts = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
    return f"{facts.get('ID', '')} {facts.get('VERSION_ID', '')}".strip()


def _closure(names: tuple[str, ...]) -> list[str]:
    """Return name=version of every package that an empty Debian would install for ``names``."""
    with tempfile.TemporaryDirectory(prefix="assist-") as work:
        status = Path(work) / "status"
        status.touch()
        options = ["-o", f"Dir::State::status={status}", "-o", "APT::Get::Show-User-Simulation-Note=false"]
        planned = _apt(
            ["install", "-qq", "--print-uris", "--no-install-recommends", *options, *names], Path(work)
        )
    versions = []
    for line in planned.splitlines():
        if line.startswith("'"):
            name, version, _ = unquote(line.split()[1]).split("_")
            versions.append(f"{name}={version}")
    return sorted(versions)


def _records(versions: list[str]) -> Iterator[str]:
    """Yield apt's record of each package, with the name of its file in the bundle."""
    shown = _run(["apt-cache", "show", *versions], Path.cwd())
    seen = set()
    for record in sorted(shown.split("\n\n")):
        fields = dict(
            line.split(": ", 1) for line in record.splitlines() if re.match(r"^[A-Z][\w-]*: ", line)
        )
        package = (fields.get("Package"), fields.get("Version"))
        if "Filename" in fields and package not in seen:
            seen.add(package)
            name = f"{package[0]}_{str(package[1]).replace(':', '.')}_{fields['Architecture']}.deb"
            yield (
                re.sub(r"^Filename: .*$", f"Filename: ./{name}", record.strip(), flags=re.MULTILINE) + "\n\n"
            )


def _apt(arguments: list[str], folder: Path) -> str:
    return _run(["apt-get", *arguments], folder)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BundleError(
            f"{command[0]} could not be run ({error}); bundles take packages from apt. {_UPDATE}"
        ) from error
    if done.returncode:
        raise BundleError(f"{' '.join(command[:2])} failed: {done.stderr.strip()}. {_UPDATE}")
    return done.stdout
