"""The images that the real node needs from the start, made without a registry or a builder, and kept in the cache."""

import fcntl
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from testing import tools
from testing.cluster.node_programs import PAUSE_IMAGE
from testing.tools.kits import cache_folder

HERE = Path(__file__).resolve().parent
# CoreDNS, metrics-server and the device plugin; a Python for pods.
ADDONS_IMAGE, PYTHON_IMAGE, KEDA_IMAGE = "local.test/addons:1", "local.test/py:1", "local.test/keda:2.20.2"
SUITE = "bookworm"
_PACKAGES = "base-files,base-passwd,dash,coreutils,python3,busybox-static,ca-certificates,netbase,tzdata"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image of one layer: a root file system (a tar archive), or files and links by their paths in it."""

    name: str
    root: Path | None = None
    files: dict[str, Path] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    user: str = ""

    def write(self, target: Path) -> None:
        """Write an archive as `docker save` does. The same input gives the same bytes."""
        part = target.with_name(f".{target.name}.part")
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            layer = self.root or self._layer(Path(folder) / "layer.tar")
            with layer.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            config = json.dumps(self._config(digest), sort_keys=True).encode()
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            manifest = [{"Config": name, "RepoTags": [self.name], "Layers": [f"{digest}/layer.tar"]}]
            with tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as archive:
                _add(archive, name, config)
                entry = tarfile.TarInfo(f"{digest}/layer.tar")
                entry.size = layer.stat().st_size
                with layer.open("rb") as file:
                    archive.addfile(entry, file)
                _add(archive, "manifest.json", json.dumps(manifest).encode())
        part.rename(target)

    def _layer(self, layer: Path) -> Path:
        with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as archive:
            for folder in _folders([*self.files, *self.links, "tmp/-"]):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
                archive.addfile(entry)
            for path, source in sorted(self.files.items()):
                entry = tarfile.TarInfo(path)
                entry.mode, entry.size = 0o755, source.stat().st_size
                with source.open("rb") as file:
                    archive.addfile(entry, file)
            for path, target in sorted(self.links.items()):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                archive.addfile(entry)
        return layer

    def _config(self, digest: str) -> dict[str, object]:
        settings: dict[str, object] = {"Env": [_PATH], "WorkingDir": "/"}
        if self.entrypoint:
            settings["Entrypoint"] = list(self.entrypoint)
        if self.user:
            settings["User"] = self.user
        made = "1970-01-01T00:00:00Z"
        return {
            "architecture": "amd64",
            "os": "linux",
            "created": made,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": made}],
        }


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _folders(paths: Iterable[str]) -> list[str]:
    """Return the folders that these paths need, outer ones first."""
    parents = {str(parent) for path in paths for parent in Path(path).parents}
    return sorted(parents - {"."})


def prepare() -> list[Path]:
    """Make the node's images where the cache lacks them, and return their archives."""
    folder = cache_folder() / "cluster" / _stamp()
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / name for name in ("pause.tar", "addons.tar", "python.tar")]
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file, make in zip(made, (_pause, _addons, _python), strict=True):
            if not file.exists():
                make(file)
    return made


def prepare_keda() -> Path:
    """Make KEDA's image where the cache lacks it, and return its archive."""
    programs = {
        name: tools.file("keda", name) for name in ("keda", "keda-adapter", "keda-admission-webhooks")
    }
    folder = cache_folder() / "cluster" / _identity(programs.values())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "keda.tar").exists():
            Image(KEDA_IMAGE, files=programs, user="1000:1000").write(folder / "keda.tar")
    return folder / "keda.tar"


def _stamp() -> str:
    return _identity([HERE / "images.py", HERE / "pause.c", *_addon_files().values()])


def _identity(files: Iterable[Path]) -> str:
    """Return what changes with these files; the programs are too big to be read each time."""
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _pause(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "pause"
        compiler = ["gcc", "-Os", "-static", "-s", "-o", str(program), str(HERE / "pause.c")]
        subprocess.run(compiler, check=True, capture_output=True, timeout=120)
        image = Image(PAUSE_IMAGE, files={"pause": program}, entrypoint=("/pause",), user="65535:65535")
        image.write(target)


def _addon_files() -> dict[str, Path]:
    return {
        "coredns": tools.file("kubernetes", "coredns").resolve(),
        "metrics-server": tools.file("kubernetes", "metrics-server").resolve(),
        "fakegpu": tools.file("gpu-nodes", "fakegpu").resolve(),
    }


def _addons(target: Path) -> None:
    """Put the programs in: one that is several by its name is there once, with a link for each name."""
    programs = _addon_files()
    files = {f"bin/{source.name}": source for source in programs.values()}
    links = {name: f"bin/{source.name}" for name, source in programs.items()}
    Image(ADDONS_IMAGE, files=files, links=links).write(target)


def _python(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        root = Path(folder) / "root.tar"
        stripped = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
        command = ["mmdebstrap", "--variant=extract", "--mode=root", "--quiet", f"--include={_PACKAGES}"]
        environment = os.environ | {"PATH": tools.search_path()}
        arguments = [*command, *stripped, SUITE, str(root)]
        subprocess.run(arguments, env=environment, check=True, capture_output=True, timeout=900)
        Image(PYTHON_IMAGE, root=root, user="65534:65534").write(target)
