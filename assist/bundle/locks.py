"""The requirements of lock files, each with its allowed checksums."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Locked:
    """One package at one version; ``text`` is the lock file's entry, including the checksums."""

    name: str
    version: str
    sha256: frozenset[str]
    text: str


def read(files: Iterable[Path]) -> list[Locked]:
    """Return what this interpreter would install from ``files``, each version once, sorted by name."""
    locked: dict[tuple[str, str], Locked] = {}
    for file in files:
        for text in _blocks(file.read_text(encoding="utf-8")):
            requirement = Requirement(text.partition("--hash")[0].replace("\\\n", " ").strip())
            if requirement.marker is None or requirement.marker.evaluate():
                version = str(requirement.specifier).removeprefix("==")
                name = canonicalize_name(requirement.name)
                locked[name, version] = Locked(name, version, frozenset(_HASH.findall(text)), text)
    return [locked[key] for key in sorted(locked)]


def _blocks(text: str) -> list[str]:
    lines = "\n".join(
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )
    return [block for block in re.split(r"(?<!\\)\n", lines) if block.strip()]
