"""The wanted set: what a run must end with. Its checksums are the authority, never the server's metadata."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_loader import path_rules
from model_loader.errors import PlanError

_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class WantedFile:
    """One file: ``path`` relative to the model, ``size`` in bytes, ``sha256`` lower case; None = unknown."""

    path: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A model's wanted files. ``digest`` keys the staging folder, so a resumed run finds its own bytes."""

    model: str
    revision: str
    files: tuple[WantedFile, ...]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        rows = [[f.path, f.size, f.sha256] for f in sorted(self.files, key=lambda f: f.path)]
        text = json.dumps([self.model, self.revision, rows], separators=(",", ":"))
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @property
    def unpinned(self) -> tuple[str, ...]:
        """Paths that no checksum protects."""
        return tuple(f.path for f in self.files if f.sha256 is None)


def check(plan: Plan, *, allow_unpinned: bool, extra_formats: frozenset[str] = frozenset()) -> None:
    """Refuse a plan that may not run; nothing was asked of anyone yet. Raises PlanError."""
    path_rules.check_identifier(plan.model, "model id")
    path_rules.check_identifier(plan.revision, "revision")
    if not plan.files:
        raise PlanError(f"{plan.model}: the file list is empty; nothing could be served from it.")
    path_rules.check_names(f.path for f in plan.files)
    for file in plan.files:
        path_rules.check_format(file.path, pinned=file.sha256 is not None, extra=extra_formats)
        if file.sha256 is not None and not _SHA256.match(file.sha256):
            raise PlanError(f"{file.path}: {file.sha256[:70]!r} is no sha256 (64 lower-case hex digits).")
        if file.size is not None and file.size < 0:
            raise PlanError(f"{file.path}: size {file.size} is negative.")
    if plan.unpinned and not allow_unpinned:
        raise PlanError(
            f"{plan.model}: no checksum for {', '.join(plan.unpinned[:5])}."
            f" Run `assist models pin {plan.model}` to record them, or pass --allow-unpinned."
        )


def parse_manifest(document: Any, origin: str) -> Plan:  # noqa: ANN401  -- any JSON document may arrive here
    """Build a plan from a parsed ``manifest.json``; ``origin`` names it in messages. Raises PlanError."""
    try:
        files = tuple(WantedFile(str(f["path"]), f.get("size"), f.get("sha256")) for f in document["files"])
        plan = Plan(str(document["model"]), str(document["revision"]), files)
    except (KeyError, TypeError, AttributeError) as error:
        raise PlanError(
            f"{origin}: no manifest: needs model, revision and files[path, size, sha256]."
        ) from error
    if not all(_typed(f) for f in plan.files):
        raise PlanError(f"{origin}: size must be a whole number of bytes and sha256 text.")
    return plan


def _typed(file: WantedFile) -> bool:
    whole = file.size is None or (isinstance(file.size, int) and not isinstance(file.size, bool))
    return whole and (file.sha256 is None or isinstance(file.sha256, str))


def read_manifest(path: Path) -> Plan:
    """Read a manifest file. Raises PlanError when it is missing or is no manifest."""
    try:
        return parse_manifest(json.loads(path.read_bytes()), path.name)
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise PlanError(f"{path}: is not JSON ({error}).") from error


def from_catalogue(model: str, revision: str | None = None) -> Plan:
    """Return the catalogue's plan for ``model``; another ``revision`` than its own drops the checksums.

    Raises PlanError for an unknown model.
    """
    from stackfile.catalogue import models

    facts = models().get(model)
    if facts is None:
        known = ", ".join(sorted(models()))
        raise PlanError(f"model {model!r} is not in the catalogue ({known}); add it or pass --manifest.")
    same = revision in (None, facts.revision)
    files = tuple(
        WantedFile(f.path, f.size if same else None, f.sha256 if same else None) for f in facts.files
    )
    return Plan(model, revision or facts.revision, files)
