"""The image that hosts start from: a small Debian, made with mmdebstrap once and kept."""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.lab.processes import locked, run
from testing.lab.proxy import serving
from testing.lab.settings import PACKAGES, LabSettings, sources_list

# Counted up when what follows changes what an image holds.
_VERSION = 3
_MEMORY = Path("/dev/shm")
_ROOM = 3 << 30
_DPKG = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-unsafe-io",
)
_MASKED = "systemd-networkd-wait-online.service e2scrub_all.timer console-getty.service getty@tty1.service"
_HOOKS = (
    # The proxy's address is another one in a host, and each host gets keys of its own.
    'rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap',
    'rm -f "$1"/etc/ssh/ssh_host_*',
    f'chroot "$1" systemctl mask {_MASKED} >/dev/null 2>&1 || true',
    'chroot "$1" systemctl set-default multi-user.target >/dev/null',
    'chroot "$1" useradd -m -s /bin/bash deploy',
    "echo 'deploy ALL=(ALL) NOPASSWD:ALL' > \"$1\"/etc/sudoers.d/deploy",
)


def build(settings: LabSettings, packages: str = PACKAGES, *, force: bool = False) -> Path:
    """Return the root folder of the image with these packages (comma separated); make it where it isn't there yet.

    ``force`` makes it anew.
    """
    what = json.dumps([settings.suite, settings.components, sorted(packages.split(",")), _VERSION])
    name = f"image-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    root, archive = settings.cache / name, settings.cache / f"{name}.tar.zst"
    with locked(settings.cache / f"{name}.lock"):
        if force:
            shutil.rmtree(root, ignore_errors=True)
            archive.unlink(missing_ok=True)
        if not root.is_dir():
            if not archive.exists():
                with _timed(f"image of {settings.suite} made"):
                    _make(settings, packages, archive)
            with _timed("image unpacked"):
                _unpack(archive, root)
    return root


def _make(settings: LabSettings, packages: str, archive: Path) -> None:
    part = archive.with_name(f".{archive.name}")
    roomy = shutil.disk_usage(_MEMORY).free > _ROOM
    # dpkg syncs a lot, which memory does not feel.
    environment = os.environ | ({"TMPDIR": str(_MEMORY)} if roomy else {})
    with serving(settings) as address:
        apt = (
            f'Acquire::http::Proxy "http://{address}"',
            'Acquire::Languages "none"',
            'APT::Install-Recommends "false"',
        )
        run(
            "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar", f"--include={packages}",
            *(f"--aptopt={option}" for option in apt), *(f"--dpkgopt={option}" for option in _DPKG),
            *(f"--customize-hook={hook}" for hook in _HOOKS), settings.suite, part, "-",
            stdin=sources_list(settings), env=environment,
        )  # fmt: skip
    part.rename(archive)


def _unpack(archive: Path, root: Path) -> None:
    part = root.with_name(f".{root.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    keep = ("--numeric-owner", "--xattrs", "--xattrs-include=*")
    run("tar", *keep, "-I", "zstd", "-xpf", archive, "-C", part)
    part.rename(root)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    sys.stderr.write(f"lab: {what} in {time.monotonic() - started:.1f} s\n")
