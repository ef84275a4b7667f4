"""From a stack to a signed archive."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assist.bundle import archive, images, keys, locks, models, packages, plugins, wheels
from assist.bundle.archive import Progress
from assist.bundle.contents import PIP, Contents
from assist.bundle.errors import BundleError
from assist.bundle.manifest import Manifest, check
from assist.bundle.paths import checksum
from assist.deployment import Deployment
from model_loader.progress import Reporter

Say = Callable[[str], None]


@dataclass
class Gathered:
    """The files by their path in the bundle, and what could not be had."""

    files: dict[str, Path] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def add(self, found: tuple[dict[str, Path], list[str]]) -> None:
        """Take what one part has gathered."""
        self.files |= found[0]
        self.missing += found[1]


@dataclass(frozen=True)
class Builder:
    """Builds the bundle of ``deployment``; ``say`` hears each step, ``progress`` the bytes written."""

    deployment: Deployment
    contents: Contents
    say: Say
    reporter: Reporter

    def locked(self) -> list[locks.Locked]:
        """Return every wheel that is needed; pip is among them, for machines that have none."""
        layout = self.deployment.layout
        wanted = locks.read(layout.source / "requirements" / lock for lock in self.contents.locks)
        pip = wheels.pip_of(layout)
        return wanted if pip in wanted else [*wanted, pip]

    def gather(self, work: Path) -> Gathered:
        """Bring all together; downloads go to caches, what is made here to ``work``. Raises BundleError."""
        layout, contents, found = self.deployment.layout, self.contents, Gathered()
        folders = {name: work / name for name in ("debs", "images", "plugins")}
        for folder in folders.values():
            folder.mkdir()
        wanted = self.locked()
        self.say(f"{len(wanted)} wheels")
        found.files |= wheels.gather(wanted, layout, wheels.cache())
        if contents.packages:
            self.say(f"Debian packages: {', '.join(contents.packages)}")
            debs = packages.gather(contents.packages, folders["debs"], depends=contents.depends)
            found.files |= debs
        if contents.model:
            self.say(f"model {contents.model}")
            found.files |= models.gather(self.deployment.service.model, layout, self.reporter)
        if contents.images:
            self.say(f"{len(contents.images)} images")
            found.add(images.gather(contents.images, folders["images"]))
        if contents.plugins:
            self.say("Pulumi's plugins")
            found.add(plugins.gather(plugins.named_by(_wheels(found.files)), folders["plugins"]))
        return found

    def manifest(self, gathered: Gathered) -> Manifest:
        """Describe what was gathered."""
        service, source = self.deployment.service, self.deployment.layout.source
        machine, glibc = wheels.needs(_wheels(gathered.files))
        named = (*self.contents.sources, f"requirements/{PIP}")
        manifest = Manifest(
            stack=service.name,
            target=service.target,
            python="{}.{}".format(*sys.version_info),
            machine=machine,
            glibc=glibc,
            release=packages.release() if self.contents.packages else "",
            model=f"{self.contents.model}@{service.model.revision}" if self.contents.model else "",
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
    ) -> Manifest:
        """Write the signed archive to ``target``, whole or not at all. Raises BundleError.

        ``progress`` is told the total number of bytes and returns who counts them.
        """
        if not target.parent.is_dir():
            raise BundleError(
                f"the folder {target.parent} does not exist; make it, or name another with --output."
            )
        with tempfile.TemporaryDirectory(prefix="assist-bundle-") as work:
            gathered = self.gather(Path(work))
            if gathered.missing and not allow_missing:
                lines = "\n".join(f"  {line}" for line in gathered.missing)
                raise BundleError(f"not everything is here:\n{lines}\nOr build without them: --allow-missing")
            manifest = self.manifest(gathered)
            signature = keys.sign(key, manifest.to_json(), f"bundle of stack {manifest.stack}")
            archive.write(target, manifest, signature, gathered.files, progress(manifest.size))
        return manifest


def _wheels(files: dict[str, Path]) -> list[Path]:
    return [file for path, file in sorted(files.items()) if path.startswith("wheels/")]
