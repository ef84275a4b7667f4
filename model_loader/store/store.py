"""The model store.

::

    <store>/<model>/<revision>/                     complete, immutable, with manifest.json
    <store>/<model>/<revision>.<runtime>-<precision>/   the same, converted
    <store>/<model>/current[.<runtime>-<precision>]     symlink, switched last; readers know only this
    <store>/<model>/previous[...]                       symlink to what current was before: N-1 stays

A server reads through ``current``; nothing here ever follows another symlink.
"""

import contextlib
import json
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_loader import atomic_files
from model_loader.errors import PlanError, StoreError
from model_loader.path_rules import check_identifier
from model_loader.plan import Plan, WantedFile, parse_manifest
from model_loader.store import staging

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a revision folder must hold, to the byte. ``extra`` are facts about a conversion."""

    model: str
    revision: str
    source: str
    files: tuple[WantedFile, ...]
    extra: dict[str, Any]

    @property
    def digest(self) -> str:
        """Identity of the content: model, revision and files; not where it came from."""
        return Plan(self.model, self.revision, self.files).digest

    def to_json(self) -> bytes:
        """Return the text of ``manifest.json``."""
        files = [
            {"path": f.path, "size": f.size, "sha256": f.sha256}
            for f in sorted(self.files, key=lambda f: f.path)
        ]
        head = {"model": self.model, "revision": self.revision, "source": self.source}
        return (
            json.dumps({**head, "files": files, "digest": self.digest, **self.extra}, indent=1).encode()
            + b"\n"
        )


def read(folder: Path) -> Manifest | None:
    """Return the manifest of a revision folder, or None when it has none that is whole and consistent."""
    try:
        descriptor = atomic_files.open_file(folder / MANIFEST, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            document = json.loads(file.read())
        plan = parse_manifest(document, MANIFEST)
    except (OSError, ValueError, PlanError):
        return None
    known = {"model", "revision", "source", "files", "digest"}
    extra = {k: v for k, v in document.items() if k not in known}
    manifest = Manifest(plan.model, plan.revision, str(document.get("source", "")), plan.files, extra)
    return manifest if document.get("digest") == manifest.digest else None


class Store:
    """One store on one file system; the folder is made when first written to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, model: str) -> Path:
        """Return the model's folder. Raises PlanError for an unsafe id."""
        return self.root / check_identifier(model, "model id")

    def models(self) -> list[str]:
        """Return the ids of models with at least one revision folder."""
        if not self.root.is_dir():
            return []
        found = (
            p
            for p in sorted(self.root.iterdir())
            if not p.name.startswith(".") and p.is_dir() and not p.is_symlink()
        )
        return [p.name for p in found if self.revisions(p.name)]

    def revisions(self, model: str) -> list[Path]:
        """Return the model's revision folders by name; symlinks and foreign files are no revisions."""
        folder = self.folder(model)
        if not folder.is_dir() or folder.is_symlink():
            return []
        return sorted(
            p for p in folder.iterdir() if not p.is_symlink() and p.is_dir() and not p.name.startswith(".")
        )

    def links(self, model: str) -> dict[str, str]:
        """Return the model's ``current*`` and ``previous*`` links and the folder name each points to."""
        folder = self.folder(model)
        found = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_symlink() and path.name.split(".")[0] in {"current", "previous"}:
                found[path.name] = path.readlink().name
        return found

    def find(self, plan: Plan) -> tuple[Path, Manifest] | None:
        """Return the revision folder whose manifest says it holds what ``plan`` wants, unread."""
        for folder in self.revisions(plan.model):
            manifest = read(folder)
            if manifest and not manifest.extra and _fulfils(manifest, plan):
                return folder, manifest
        return None

    def find_variant(self, model: str, extra: dict[str, Any]) -> Path | None:
        """Return the converted folder whose manifest records exactly ``extra``, if it is whole."""
        for folder in self.revisions(model):
            manifest = read(folder)
            if manifest and manifest.extra == extra and is_whole(folder, manifest):
                return folder
        return None

    def publish(self, work: staging.Workspace, manifest: Manifest, variant: str | None = None) -> Path:
        """Move a verified tree to its revision's name and switch ``current`` to it, in that order.

        When the name holds other content (a moved tag), the digest is added to it, so nothing in use changes.
        Raises StoreError.
        """
        atomic_files.write_file(work.tree / MANIFEST, manifest.to_json())
        _seal(work.tree)
        work.check_owned()
        name = check_identifier(manifest.revision, "revision") + (f".{variant}" if variant else "")
        home = self.folder(manifest.model)
        atomic_files.make_folder(home)
        for target in (home / name, home / f"{name}-{manifest.digest[:12]}"):
            if self._settle(work.tree, target, manifest):
                self.switch(manifest.model, target.name, variant)
                return target
        raise StoreError(
            f"{home / name}: something else is in the way; run `model-loader verify`, then prune."
        )

    def _settle(self, tree: Path, target: Path, manifest: Manifest) -> bool:
        with atomic_files.guarded(f"cannot publish {target.name}"):
            if not target.is_symlink() and not target.exists():
                with contextlib.suppress(FileExistsError, NotADirectoryError):
                    os.rename(tree, target)  # noqa: PTH104  -- refuses an existing non-empty folder, as wanted
                    atomic_files.sync_folder(target.parent)
                    return True
        existing = read(target) if not target.is_symlink() else None
        return existing is not None and existing.digest == manifest.digest and is_whole(target, existing)

    def switch(self, model: str, name: str, variant: str | None = None) -> None:
        """Point ``current`` (of ``variant``) to ``name``; what it was becomes ``previous``."""
        suffix = f".{variant}" if variant else ""
        home = self.folder(model)
        before = self.links(model).get(f"current{suffix}")
        if before == name:
            return
        if before is not None and (home / before).is_dir():
            atomic_files.point(home / f"previous{suffix}", before)
        atomic_files.point(home / f"current{suffix}", name)

    def prune(self, model: str, *, older_than_s: float = 3600.0, dry_run: bool = False) -> list[str]:
        """Remove revisions that no ``current*`` or ``previous*`` names and that are no base of one that is.

        A folder published within ``older_than_s`` is left: its loader may be about to switch to it.
        """
        kept = set(self.links(model).values())
        for name in list(kept):
            manifest = read(self.folder(model) / name)
            kept.add(str((manifest.extra if manifest else {}).get("converted_from", {}).get("folder", "")))
        gone = []
        for folder in self.revisions(model):
            if folder.name in kept or time.time() - folder.stat().st_mtime < older_than_s:
                continue
            gone.append(folder.name)
            if not dry_run:
                self._bury(folder)
        return gone

    def _bury(self, folder: Path) -> None:
        # Renamed first: a half-deleted revision is never seen under its own name.
        grave = self.root / staging.STAGING / f"trash.{folder.name}.{time.time_ns()}"
        atomic_files.make_folder(grave.parent)
        with atomic_files.guarded(f"cannot remove {folder.name}"):
            folder.rename(grave)
            staging.remove_tree(grave)
            with contextlib.suppress(OSError):
                grave.parent.rmdir()


def _fulfils(manifest: Manifest, plan: Plan) -> bool:
    have = {f.path: f for f in manifest.files}
    if (
        manifest.model != plan.model
        or manifest.revision != plan.revision
        or set(have) != {f.path for f in plan.files}
    ):
        return False
    return all(
        f.size in (None, have[f.path].size) and f.sha256 in (None, have[f.path].sha256) for f in plan.files
    )


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Say whether every file of the manifest is a regular file of the right size."""
    for file in manifest.files:
        try:
            facts = (folder / file.path).lstat()
        except OSError:
            return False
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != file.size:
            return False
    return True


def _seal(tree: Path) -> None:
    with atomic_files.guarded("cannot sync the new revision"):
        for folder, _, files in os.walk(tree, topdown=False):
            for name in files:
                (Path(folder) / name).chmod(atomic_files.FILE_MODE)
            atomic_files.sync_folder(Path(folder))
