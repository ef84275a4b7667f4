"""A small signed bundle, made with the real writer, and ways to damage it."""

import sys
import tarfile
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assist.bundle import archive, signatures, signing_keys
from assist.bundle.manifest import BundleManifest
from assist.bundle.paths import checksum

CONTENT = {
    "debs/libpython3.11_3.11.2_amd64.deb": b"a package",
    "models/tiny/model.safetensors": bytes(range(256)) * 300,
    "wheels/empty-1.0-py3-none-any.whl": b"",
    "wheels/uv-1.0-py3-none-any.whl": b"a wheel" * 1000,
}


@dataclass
class Small:
    """A bundle of CONTENT in ``folder``, for a project of one lock file."""

    folder: Path
    private: Ed25519PrivateKey

    @property
    def archive(self) -> Path:
        return self.folder / "small.bundle"

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def key(self) -> signatures.PublicKey:
        raw = self.private.public_key().public_bytes_raw()
        return signatures.PublicKey.of(raw)

    def manifest(self, **changes) -> BundleManifest:
        lock = self.project / "requirements/control.txt"
        manifest = BundleManifest(
            stack="small",
            target="local",
            python="{}.{}".format(*sys.version_info),
            sources={"requirements/control.txt": checksum(lock)},
            files=tuple(archive.entries(self.files())),
        )
        return replace(manifest, **changes)

    def files(self) -> dict[str, Path]:
        return {path: self.folder / "content" / path for path in CONTENT}

    def build(self, manifest: BundleManifest | None = None) -> Path:
        manifest = manifest or self.manifest()
        signature = signing_keys.sign(self.private, manifest.to_json(), "small")
        archive.write(self.archive, manifest, signature, self.files(), lambda _: None)
        return self.archive

    def members(self) -> list[tuple[tarfile.TarInfo, bytes]]:
        with tarfile.open(self.archive) as tar:
            return [(member, tar.extractfile(member).read()) for member in tar]

    def write_members(self, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        with tarfile.open(self.archive, "w", format=tarfile.PAX_FORMAT) as tar:
            for member, data in members:
                tar.addfile(member, BytesIO(data) if member.isreg() else None)


def make(folder: Path) -> Small:
    small = Small(folder, Ed25519PrivateKey.generate())
    for path, data in CONTENT.items():
        file = folder / "content" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    lock = small.project / "requirements/control.txt"
    lock.parent.mkdir(parents=True)
    lock.write_text("uv==1.0\n")
    return small


def member(name: str, data: bytes = b"", **changes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in changes.items():
        setattr(info, field, value)
    return info, data
