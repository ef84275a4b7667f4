"""The manifest of a bundle: every file with size and checksum, and the purpose of the bundle."""

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from assist.bundle.errors import BundleError
from model_loader import path_rules
from model_loader.errors import PlanError

NAME = "manifest.json"
SIGNATURE = "manifest.json.minisig"
FOLDERS = ("debs", "images", "models", "plugins", "wheels")
FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "Use a bundle that this version of the project has built."


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One file: ``path`` in the archive, ``size`` in bytes, ``sha256`` in lower-case hex digits."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BundleManifest:
    """The contents of a bundle and the machines that it fits.

    ``python`` is a version such as 3.11, ``machine`` and ``glibc`` what the wheels need (empty: any),
    ``release`` the Debian release of the packages (empty: none). ``sources`` are checksums of the files
    that determined the contents, ``missing`` describes the parts that were left out.
    """

    stack: str
    target: str
    python: str
    machine: str = ""
    glibc: str = ""
    release: str = ""
    model: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    files: tuple[Entry, ...] = ()

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(entry.size for entry in self.files)

    def sizes(self) -> dict[str, int]:
        """Return the bytes in each folder."""
        return {
            folder: sum(entry.size for entry in self.files if entry.path.startswith(f"{folder}/"))
            for folder in FOLDERS
        }

    def to_json(self) -> bytes:
        """Return the text that is signed: the same content gives the same bytes."""
        document = asdict(self) | {"format": FORMAT, "files": [asdict(entry) for entry in self.files]}
        return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def parse(text: bytes) -> BundleManifest:
    """Parse and check a manifest. Raises BundleError for another format, unsafe names and wrong types."""
    try:
        document: dict[str, Any] = json.loads(text)
        if document.pop("format") != FORMAT:
            raise BundleError(f"the bundle's format is not {FORMAT}. {_AGAIN}")
        files = tuple(Entry(**entry) for entry in document.pop("files"))
        missing = tuple(document.pop("missing"))
        manifest = BundleManifest(**document, missing=missing, files=files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"the bundle's manifest can't be read ({error}). {_AGAIN}") from error
    check(manifest)
    return manifest


def check(manifest: BundleManifest) -> None:
    """Raise BundleError for names that could leave their folder or clash, and for values of a wrong type."""
    for entry in manifest.files:
        whole = isinstance(entry.size, int) and not isinstance(entry.size, bool) and entry.size >= 0
        if not (isinstance(entry.path, str) and whole and _SHA256.fullmatch(str(entry.sha256))):
            raise BundleError(f"the bundle's manifest has a bad entry: {str(entry)[:120]}. {_AGAIN}")
        if entry.path.partition("/")[0] not in FOLDERS or "/" not in entry.path:
            raise BundleError(
                f"the bundle's file {entry.path[:80]!r} is outside {', '.join(FOLDERS)}. {_AGAIN}"
            )
    try:
        path_rules.check_names(entry.path for entry in manifest.files)
    except PlanError as error:
        raise BundleError(f"the bundle is refused: {error}") from error
    if list(manifest.files) != sorted(manifest.files):
        raise BundleError(f"the bundle's manifest is not sorted by path. {_AGAIN}")
