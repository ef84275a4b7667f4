"""The model store.

::

    <store>/<model>/<revision>/                         complete and immutable, with manifest.json
    <store>/<model>/<revision>.<runtime>-<precision>/   the same revision, converted
    <store>/<model>/current[.<runtime>-<precision>]     symbolic link, switched last; servers read through it
    <store>/<model>/previous[...]                       symbolic link to the target that current had before

The loader itself follows no other symbolic link.
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
from model_loader.plan import MANIFEST, Plan, WantedFile, parse_manifest
from model_loader.store import staging


@dataclass(frozen=True)
class Manifest:
    """The exact content of a revision folder. ``extra`` describes a conversion, else it is empty."""

    model: str
    revision: str
    source: str
    files: tuple[WantedFile, ...]
    extra: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over model, revision and files; independent of the source."""
        return Plan(self.model, self.revision, self.files).digest

    def to_json(self) -> bytes:
        """Return the content of ``manifest.json``."""
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
    """Return the manifest of a revision folder, or None if it is missing, invalid or inconsistent."""
    try:
        descriptor = atomic_files.open_file(folder / MANIFEST, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            document = json.loads(file.read())
        plan = parse_manifest(document, MANIFEST)
    except (OSError, ValueError, PlanError):
        return None
    own_keys = {"model", "revision", "source", "files", "digest"}
    extra = {k: v for k, v in document.items() if k not in own_keys}
    manifest = Manifest(plan.model, plan.revision, str(document.get("source", "")), plan.files, extra)
    return manifest if document.get("digest") == manifest.digest else None


class Store:
    """One model store on one file system.

    Methods that read ignore foreign files and links, and raise PlanError only for an unsafe model id. Methods
    that write raise StoreError, whose ``full`` is set when space, inodes or quota ran out.

    Args:
        root: the folder of the store; it is created by the first run that writes to it. Staging folders and
            revisions must be on the same file system, because a publication is a rename.

    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, model: str) -> Path:
        """Return the folder of ``model``. Raises PlanError for an unsafe id."""
        return self.root / check_identifier(model, "model id")

    def models(self) -> list[str]:
        """Return the ids of the models that have at least one revision folder, sorted."""
        if not self.root.is_dir():
            return []
        folders = (
            p
            for p in sorted(self.root.iterdir())
            if not p.name.startswith(".") and p.is_dir() and not p.is_symlink()
        )
        return [p.name for p in folders if self.revisions(p.name)]

    def revisions(self, model: str) -> list[Path]:
        """Return the revision folders of ``model``, sorted by name. Raises PlanError for an unsafe id."""
        folder = self.folder(model)
        if not folder.is_dir() or folder.is_symlink():
            return []
        return sorted(
            p for p in folder.iterdir() if not p.is_symlink() and p.is_dir() and not p.name.startswith(".")
        )

    def links(self, model: str) -> dict[str, str]:
        """Return the ``current*`` and ``previous*`` links of ``model`` with the name each points to.

        Raises PlanError for an unsafe id.
        """
        folder = self.folder(model)
        links = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_symlink() and path.name.split(".")[0] in {"current", "previous"}:
                links[path.name] = path.readlink().name
        return links

    def find(self, plan: Plan) -> tuple[Path, Manifest] | None:
        """Return the revision folder, with its manifest, whose manifest matches ``plan``, or None.

        The files themselves are not read (see ``is_complete`` and ``verify.check``).
        """
        for folder in self.revisions(plan.model):
            manifest = read(folder)
            if manifest and not manifest.extra and _matches(manifest, plan):
                return folder, manifest
        return None

    def find_variant(self, model: str, extra: dict[str, Any]) -> Path | None:
        """Return the complete variant of ``model`` whose manifest records exactly ``extra``, or None."""
        for folder in self.revisions(model):
            manifest = read(folder)
            if manifest and manifest.extra == extra and is_complete(folder, manifest):
                return folder
        return None

    def publish(self, work: staging.Workspace, manifest: Manifest, variant: str | None = None) -> Path:
        """Rename a verified tree to its revision's name, switch ``current`` to it, and return the folder.

        If the name is in use for other content (a moved tag), the digest is appended to it, so that a folder
        in use never changes.

        Args:
            work: the staging folder, whose ``tree`` contains the files of ``manifest``.
            manifest: the content; it is written to ``manifest.json``.
            variant: ``<runtime>-<precision>`` of a conversion; None for the revision itself.

        Raises:
            StoreError: the store cannot be written, or both names are in use for other content.
            Stopped: another run has taken over ``work``.

        """
        atomic_files.write_file(work.tree / MANIFEST, manifest.to_json())
        _seal(work.tree)
        work.check_owned()
        name = check_identifier(manifest.revision, "revision") + (f".{variant}" if variant else "")
        home = self.folder(manifest.model)
        atomic_files.make_folder(home)
        for target in (home / name, home / f"{name}-{manifest.digest[:12]}"):
            if self._rename_to(work.tree, target, manifest):
                self.switch(manifest.model, target.name, variant)
                return target
        raise StoreError(
            f"{home / name}: the path exists and holds something else; run `model-loader verify`, then prune."
        )

    def _rename_to(self, tree: Path, target: Path, manifest: Manifest) -> bool:
        with atomic_files.guarded(f"cannot publish {target.name}"):
            if not target.is_symlink() and not target.exists():
                with contextlib.suppress(FileExistsError, NotADirectoryError):
                    os.rename(tree, target)  # noqa: PTH104  -- fails for an existing non-empty folder, as intended
                    atomic_files.sync_folder(target.parent)
                    return True
        existing = read(target) if not target.is_symlink() else None
        return existing is not None and existing.digest == manifest.digest and is_complete(target, existing)

    def switch(self, model: str, name: str, variant: str | None = None) -> None:
        """Point ``current`` (of ``variant``) to the folder ``name``, and ``previous`` to the target before.

        Nothing changes if ``current`` already points to it. Raises StoreError.
        """
        suffix = f".{variant}" if variant else ""
        home = self.folder(model)
        before = self.links(model).get(f"current{suffix}")
        if before == name:
            return
        if before is not None and (home / before).is_dir():
            atomic_files.point(home / f"previous{suffix}", before)
        atomic_files.point(home / f"current{suffix}", name)

    def prune(self, model: str, *, older_than_s: float = 3600.0, dry_run: bool = False) -> list[str]:
        """Remove the revisions that are not in use and return their names.

        In use are the targets of ``current*`` and ``previous*``, and the revisions that these were converted
        from. A folder younger than ``older_than_s`` seconds is kept: its loader may be about to switch to it.
        With ``dry_run`` nothing is removed. Raises StoreError.
        """
        kept = set(self.links(model).values())
        for name in list(kept):
            manifest = read(self.folder(model) / name)
            kept.add(str((manifest.extra if manifest else {}).get("converted_from", {}).get("folder", "")))
        removed = []
        for folder in self.revisions(model):
            if folder.name in kept or time.time() - folder.stat().st_mtime < older_than_s:
                continue
            removed.append(folder.name)
            if not dry_run:
                self._remove(folder)
        return removed

    def withdraw(self, folder: Path) -> None:
        """Remove one revision; a link to it points nowhere until it is published again. Raises StoreError."""
        self._remove(folder)

    def _remove(self, folder: Path) -> None:
        # Renamed first, so that a partly deleted revision is never visible under its own name.
        trash = self.root / staging.STAGING / f"trash.{folder.name}.{time.time_ns()}"
        atomic_files.make_folder(trash.parent)
        with atomic_files.guarded(f"cannot remove {folder.name}"):
            folder.rename(trash)
            staging.remove_tree(trash)
            with contextlib.suppress(OSError):
                trash.parent.rmdir()


def _matches(manifest: Manifest, plan: Plan) -> bool:
    present = {f.path: f for f in manifest.files}
    if (
        manifest.model != plan.model
        or manifest.revision != plan.revision
        or set(present) != {f.path for f in plan.files}
    ):
        return False
    return all(
        f.size in (None, present[f.path].size) and f.sha256 in (None, present[f.path].sha256)
        for f in plan.files
    )


def is_complete(folder: Path, manifest: Manifest) -> bool:
    """Return whether every file of the manifest is a regular file with the right size (unread)."""
    for file in manifest.files:
        try:
            status = (folder / file.path).lstat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
            return False
    return True


def _seal(tree: Path) -> None:
    with atomic_files.guarded("cannot sync the new revision"):
        for folder, _, files in os.walk(tree, topdown=False):
            for name in files:
                (Path(folder) / name).chmod(atomic_files.FILE_MODE)
            atomic_files.sync_folder(Path(folder))
