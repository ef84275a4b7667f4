"""What ``pins.toml`` says: kits of programs, with versions, checksums and where they come from."""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PINS = HERE / "pins.toml"


@dataclass(frozen=True)
class Download:
    """A file that its project publishes, and how to know that it is the right one."""

    url: str
    name: str = ""
    sha256: str = ""
    published: str = ""
    tree_sha256: str = ""
    members: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Image:
    """A container image that has the programs; ``url`` is its repository in the registry's API."""

    url: str
    digest: str
    members: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Module:
    """A Go module and its entry in the checksum database."""

    path: str
    version: str
    sum: str


@dataclass(frozen=True)
class Kit:
    """Programs that are found, fetched and removed together."""

    name: str
    version: str
    purpose: str
    files: tuple[str, ...]
    folders: tuple[str, ...]
    from_path: bool
    sources: str
    debian: tuple[str, ...]
    downloads: tuple[Download, ...]
    images: tuple[Image, ...]
    modules: tuple[tuple[str, Module], ...]
    stamp: str

    @property
    def released(self) -> bool:
        """Return whether its project publishes it as something to download."""
        return bool(self.downloads or self.images)

    def module(self, name: str) -> Module:
        """Return the module that the pins call ``name``."""
        return dict(self.modules)[name]


@dataclass(frozen=True)
class Package:
    """A Debian package, the file, library or program that shows that it is installed, and what needs it."""

    name: str
    sign: str
    purpose: str


def cache_folder() -> Path:
    """Return the user's cache of this project, XDG_CACHE_HOME/ai-assist or ~/.cache/ai-assist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-assist"


def load() -> tuple[dict[str, Kit], list[Package]]:
    """Return the kits by name, and Debian's packages."""
    document = tomllib.loads(PINS.read_text())
    kits = {name: _kit(name, table) for name, table in document["kits"].items()}
    packages = [Package(name, sign, purpose) for name, (sign, purpose) in document["debian"].items()]
    return kits, packages


@cache
def kits() -> dict[str, Kit]:
    """Return this checkout's kits by name.

    Raises:
        KeyError: On access to a kit that does not exist.

    """
    return load()[0]


def _kit(name: str, table: dict[str, Any]) -> Kit:
    downloads = (Download(**entry | {"members": _pairs(entry)}) for entry in table.get("downloads", ()))
    images = (Image(entry["url"], entry["digest"], _pairs(entry)) for entry in table.get("images", ()))
    modules = ((key, Module(**entry)) for key, entry in table.get("modules", {}).items())
    sources = table.get("sources", "")
    return Kit(
        name=name,
        version=table["version"],
        purpose=table["purpose"],
        files=tuple(table["files"]),
        folders=tuple(table.get("folders", ())),
        from_path=table.get("from_path", True),
        sources=sources,
        debian=tuple(table.get("debian", ())),
        downloads=tuple(downloads),
        images=tuple(images),
        modules=tuple(modules),
        stamp=_stamp(table, _files(sources)),
    )


def _pairs(entry: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(entry.get("members", {}).items())


def _files(sources: str) -> Iterable[Path]:
    return sorted(file for file in (HERE / "go" / sources).rglob("*") if file.is_file()) if sources else ()


def _stamp(table: dict[str, Any], files: Iterable[Path]) -> str:
    """Return what changes with every pin and every source of the kit."""
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
