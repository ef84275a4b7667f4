"""The installed bundle's paths, and whether the bundle fits the clone. Quick to import."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from assist.bundle import manifest as manifests
from assist.bundle.errors import BundleError
from assist.paths import Paths

LINK = "bundle"


@dataclass(frozen=True)
class BundlePaths:
    """The clone (``source``) of a bundle, and the folder ``home`` that contains the installed bundle."""

    source: Path
    home: Path

    @classmethod
    def of(cls, layout: Paths) -> "BundlePaths":
        """Return the paths of a clone."""
        return cls(layout.source, layout.home)

    @property
    def link(self) -> Path:
        """The symbolic link to the installed bundle."""
        return self.home / LINK

    def covers(self, locks: list[str]) -> bool:
        """Return whether the installed bundle has these lock files of requirements/ as they are now."""
        try:
            manifest = manifests.parse((self.link / manifests.NAME).read_bytes())
        except (OSError, BundleError):
            return False
        paths = [f"requirements/{lock}" for lock in locks]
        return all(manifest.sources.get(path) == checksum(self.source / path) for path in paths)


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file; empty where there is none."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
