"""The files that a run must publish. Their checksums are authoritative, the server's metadata is not."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_loader import path_rules
from model_loader.errors import PlanError

MANIFEST = "manifest.json"
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class WantedFile:
    """One file: ``path`` in the model, ``size`` in bytes, ``sha256`` in lower case; None: unknown."""

    path: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a model's revision. ``digest`` names its staging folder, so a run can resume."""

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
        """Paths of the files without a checksum."""
        return tuple(f.path for f in self.files if f.sha256 is None)


def check(plan: Plan, *, allow_unpinned: bool, extra_formats: frozenset[str] = frozenset()) -> None:
    """Refuse an invalid or unpinned plan, without network access. Raises PlanError.

    ``extra_formats`` are file suffixes that the operator allowed in addition, such as ``.bin``.
    """
    path_rules.check_identifier(plan.model, "model id")
    path_rules.check_identifier(plan.revision, "revision")
    if not plan.files:
        raise PlanError(f"{plan.model}: the file list is empty; there is nothing to serve.")
    path_rules.check_names(f.path for f in plan.files)
    for file in plan.files:
        path_rules.check_format(file.path, pinned=file.sha256 is not None, extra=extra_formats)
        if file.sha256 is not None and not _SHA256.match(file.sha256):
            raise PlanError(f"{file.path}: {file.sha256[:70]!r} is not a SHA-256 (64 lower-case hex digits).")
        if file.size is not None and file.size < 0:
            raise PlanError(f"{file.path}: size {file.size} is negative.")
    if plan.unpinned and not allow_unpinned:
        raise PlanError(
            f"{plan.model}: no recorded checksum for {', '.join(plan.unpinned[:5])}."
            f" Run `assist models pin {plan.model}` to record them, or pass --allow-unpinned."
        )


def parse_manifest(document: Any, name: str) -> Plan:  # noqa: ANN401  -- any JSON document may arrive here
    """Return the plan of a parsed ``manifest.json``; ``name`` names it in messages. Raises PlanError."""
    try:
        files = tuple(WantedFile(str(f["path"]), f.get("size"), f.get("sha256")) for f in document["files"])
        plan = Plan(str(document["model"]), str(document["revision"]), files)
    except (KeyError, TypeError, AttributeError) as error:
        raise PlanError(
            f"{name}: not a manifest: model, revision and files[path, size, sha256] are required."
        ) from error
    if not all(_typed(f) for f in plan.files):
        raise PlanError(f"{name}: size must be a whole number of bytes, and sha256 a string.")
    return plan


def _typed(file: WantedFile) -> bool:
    whole = file.size is None or (isinstance(file.size, int) and not isinstance(file.size, bool))
    return whole and (file.sha256 is None or isinstance(file.sha256, str))


def read_manifest(path: Path) -> Plan:
    """Return the plan of a manifest file. Raises PlanError when the file is missing or is not a manifest."""
    try:
        return parse_manifest(json.loads(path.read_bytes()), path.name)
    except OSError as error:
        raise PlanError(f"cannot read {path} ({error.strerror}).") from error
    except ValueError as error:
        raise PlanError(f"{path} is not JSON ({error}).") from error


def from_catalogue(model: str, revision: str | None = None) -> Plan:
    """Return the catalogue's plan for ``model``; with another ``revision`` the plan has no checksums.

    Raises PlanError for an unknown model.
    """
    from stackfile.catalogue import models, unknown_model

    facts = models().get(model)
    if facts is None:
        hint = unknown_model(model, models())
        raise PlanError(f"model {model!r} is not in the catalogue; {hint}; or pass --manifest.")
    pinned = revision in (None, facts.revision)
    files = tuple(
        WantedFile(f.path, f.size if pinned else None, f.sha256 if pinned else None) for f in facts.files
    )
    return Plan(model, revision or facts.revision, files)
