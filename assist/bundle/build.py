"""Builds the signed archive of a stack."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assist.bundle import archive, images, locks, models, packages, plugins, signing_keys, wheels
from assist.bundle.archive import Progress
from assist.bundle.contents import PIP, Contents
from assist.bundle.errors import BundleError
from assist.bundle.manifest import BundleManifest, check
from assist.bundle.paths import checksum
from assist.deployment import Deployment
from model_loader.progress import Reporter

Say = Callable[[str], None]


@dataclass
class Gathered:
    """The files by their path in the bundle, and the list of missing ones with remedies."""

    files: dict[str, Path] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, part: tuple[dict[str, Path], list[str]]) -> None:
        """Add the files and the missing ones of one part."""
        self.files |= part[0]
        self.missing += part[1]


@dataclass(frozen=True)
class Builder:
    """Builds the bundle of ``deployment``; calls ``say`` with each step."""

    deployment: Deployment
    contents: Contents
    say: Say
    reporter: Reporter

    def locked(self) -> list[locks.Locked]:
        """Return every wheel of the bundle, including pip, for machines without one."""
        layout = self.deployment.layout
        locked = locks.read(layout.source / "requirements" / lock for lock in self.contents.locks)
        pip = wheels.pip_of(layout)
        return locked if pip in locked else [*locked, pip]

    def gather(self, work: Path) -> Gathered:
        """Collect every file: downloads in caches, files made here in ``work``. Raises BundleError."""
        layout, contents, gathered = self.deployment.layout, self.contents, Gathered()
        folders = {name: work / name for name in ("debs", "images", "plugins")}
        for folder in folders.values():
            folder.mkdir()
        locked = self.locked()
        self.say(f"{len(locked)} wheels")
        gathered.files |= wheels.gather(locked, layout, wheels.cache())
        if contents.packages:
            self.say(f"Debian packages: {', '.join(contents.packages)}")
            debs = packages.gather(contents.packages, folders["debs"], depends=contents.depends)
            gathered.files |= debs
        if contents.model:
            self.say(f"model {contents.model}")
            gathered.files |= models.gather(self.deployment.stack.model, layout, self.reporter)
        if contents.images:
            self.say(f"{len(contents.images)} images")
            gathered.add(images.gather(contents.images, folders["images"]))
        if contents.plugins:
            self.say("Pulumi's plugins")
            gathered.add(plugins.gather(plugins.named_by(_wheels(gathered.files)), folders["plugins"]))
        return gathered

    def manifest(self, gathered: Gathered) -> BundleManifest:
        """Return the manifest of the gathered files. Raises BundleError."""
        stack, source = self.deployment.stack, self.deployment.layout.source
        machine, glibc = wheels.needs(_wheels(gathered.files))
        named = (*self.contents.sources, f"requirements/{PIP}")
        manifest = BundleManifest(
            stack=stack.name,
            target=stack.target,
            python="{}.{}".format(*sys.version_info),
            machine=machine,
            glibc=glibc,
            release=packages.release() if self.contents.packages else "",
            model=f"{self.contents.model}@{stack.model.revision}" if self.contents.model else "",
            sources={path: checksum(source / path) for path in sorted(set(named))},
            missing=tuple(sorted(gathered.missing)),
            files=tuple(archive.entries(gathered.files)),
        )
        check(manifest)
        return manifest

    def build(
        self,
        target: Path,
        key: Ed25519PrivateKey,
        progress: Callable[[int], Progress],
        *,
        allow_missing: bool,
    ) -> BundleManifest:
        """Write the signed archive to ``target`` in one step. Raises BundleError.

        ``progress`` gets the total number of bytes and returns the function that counts them.
        """
        if not target.parent.is_dir():
            raise BundleError(
                f"the folder {target.parent} does not exist; create it, or name another with --output."
            )
        with tempfile.TemporaryDirectory(prefix="assist-bundle-") as work:
            gathered = self.gather(Path(work))
            if gathered.missing and not allow_missing:
                lines = "\n".join(f"  {line}" for line in gathered.missing)
                raise BundleError(
                    f"missing on this machine:\n{lines}\nOr build without them: --allow-missing"
                )
            manifest = self.manifest(gathered)
            signature = signing_keys.sign(key, manifest.to_json(), f"bundle of stack {manifest.stack}")
            archive.write(target, manifest, signature, gathered.files, progress(manifest.size))
        return manifest


def _wheels(files: dict[str, Path]) -> list[Path]:
    return [file for path, file in sorted(files.items()) if path.startswith("wheels/")]
