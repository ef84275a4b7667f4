"""Wheels: downloaded by pip with the user's settings, and cached, so that a second build needs no network."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging import tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from assist.bundle.errors import BundleError
from assist.bundle.locks import Locked, read
from assist.bundle.paths import checksum
from assist.paths import Paths


def cache() -> Path:
    """Return the folder that keeps downloaded wheels between builds."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-assist" / "wheels"


def gather(locked: Iterable[Locked], layout: Paths, folder: Path) -> dict[str, Path]:
    """Return a wheel for each locked package, by its path in the bundle; pip downloads what ``folder`` lacks.

    Raises BundleError with pip's message.
    """
    packages = list(locked)
    files = _cached(packages, folder)
    if missing := [package for package in packages if package not in files]:
        _download(missing, layout, folder)
        files |= _cached(missing, folder)
    if lacking := [f"{package.name}=={package.version}" for package in packages if package not in files]:
        raise BundleError(
            f"no wheel for this platform matches the checksums of the lock files: {', '.join(lacking)}"
        )
    return {f"wheels/{file.name}": file for file in files.values()}


def _cached(packages: list[Locked], folder: Path) -> dict[Locked, Path]:
    """Return the files of ``folder`` that fit this interpreter and have a locked checksum."""
    by_name: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(folder.glob("*.whl")):
        by_name.setdefault((canonicalize_name(file.name.split("-")[0]), file.name.split("-")[1]), []).append(
            file
        )
    matching = {}
    supported = frozenset(tags.sys_tags())
    for package in packages:
        for file in by_name.get((package.name, package.version), []):
            if _tags(file) & supported and checksum(file) in package.sha256:
                matching[package] = file
                break
    return matching


def _tags(file: Path) -> frozenset[tags.Tag]:
    try:
        return parse_wheel_filename(file.name)[3]
    except InvalidWheelFilename:
        return frozenset()


def _download(missing: list[Locked], layout: Paths, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as work:
        lock, target = Path(work) / "lock.txt", Path(work) / "wheels"
        pip = [sys.executable, str(_pip(layout, Path(work))), "--disable-pip-version-check", "--quiet"]
        options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", str(target)]
        for packages in _rounds(missing):
            lock.write_text("".join(f"{package.text}\n" for package in packages), encoding="utf-8")
            _run([*pip, "download", *options, "--requirement", str(lock)])
        for file in target.iterdir():
            file.replace(folder / file.name)


def _rounds(missing: list[Locked]) -> Iterator[list[Locked]]:
    """Yield sets for one pip run each: pip takes one version of a package, but environments may differ."""
    while missing:
        first = {package.name: package for package in reversed(missing)}
        yield list(first.values())
        missing = [package for package in missing if first[package.name] != package]


def _pip(layout: Paths, work: Path) -> Path:
    """Install the locked pip temporarily, because the control environment has none."""
    lock = work / "pip.txt"
    lock.write_text(pip_of(layout).text + "\n", encoding="utf-8")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    options = [
        "--quiet",
        "--no-deps",
        "--require-hashes",
        f"--python={sys.executable}",
        f"--target={work / 'pip'}",
    ]
    _run([uv, "pip", "install", *options, f"--requirement={lock}"])
    return work / "pip" / "pip"


def pip_of(layout: Paths) -> Locked:
    """Return the locked pip, which runs first on a machine without pip and uv."""
    return next(
        package for package in read([layout.source / "requirements/infra.txt"]) if package.name == "pip"
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        remedy = "Without PyPI, set a mirror (PIP_INDEX_URL) or a folder of wheels (PIP_FIND_LINKS)."
        raise BundleError(f"the locked packages could not be downloaded. {remedy}\n{done.stderr.strip()}")


def needs(files: Iterable[Path]) -> tuple[str, str]:
    """Return the machine and the oldest glibc on which all of these wheels run; empty for any."""
    native = [
        platforms for file in files if "any" not in (platforms := {tag.platform for tag in _tags(file)})
    ]
    newest = max((min(map(_glibc, platforms)) for platforms in native), default=(0, 0))
    return (platform.machine(), ".".join(map(str, newest))) if native else ("", "")


def _glibc(tag: str) -> tuple[int, int]:
    """Return the glibc of a manylinux tag (PEP 600); the older names stand for fixed versions (PEP 599)."""
    older = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    name, *version = tag.split("_", 3)
    return (int(version[0]), int(version[1])) if name == "manylinux" else older.get(name, (0, 0))
