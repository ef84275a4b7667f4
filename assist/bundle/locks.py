"""What a lock file asks for: every requirement with the checksums that are allowed for it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Locked:
    """One package at one version; ``text`` is the lock file's own, checksums and all."""

    name: str
    version: str
    sha256: frozenset[str]
    text: str


def read(files: Iterable[Path]) -> list[Locked]:
    """Return what this interpreter would install from ``files``, each version once, in order of names."""
    found: dict[tuple[str, str], Locked] = {}
    for file in files:
        for text in _blocks(file.read_text(encoding="utf-8")):
            requirement = Requirement(text.partition("--hash")[0].replace("\\\n", " ").strip())
            if requirement.marker is None or requirement.marker.evaluate():
                version = str(requirement.specifier).removeprefix("==")
                name = canonicalize_name(requirement.name)
                found[name, version] = Locked(name, version, frozenset(_HASH.findall(text)), text)
    return [found[key] for key in sorted(found)]


def _blocks(text: str) -> list[str]:
    lines = "\n".join(
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    )
    return [block for block in re.split(r"(?<!\\)\n", lines) if block.strip()]
