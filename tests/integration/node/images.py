"""Our own images, built by ``images/build`` on a base that mmdebstrap makes in the public one's place."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stackfile.catalogue import ROOT
from testing import needs, tools

BASE = "localhost/python-debian:12"
REGISTRY = "localhost/ai-assist-test"
PARTS = ("gateway", "loader", "triton-cpu")
_PACKAGES = (
    "base-files,base-passwd,bash,ca-certificates,coreutils,dash,grep,libc-bin,libgomp1,libpython3.11,"
    "libstdc++6,netbase,python3,python3-venv,sed"
)
_STRIPPED = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
# Unpacked packages are not configured; these are the few things that a Python needs of that.
_CONFIGURE = (
    "cp /usr/share/base-passwd/passwd.master /etc/passwd && cp /usr/share/base-passwd/group.master /etc/group"
    " && mkdir -p /etc/ssl/certs"
    " && cat /usr/share/ca-certificates/mozilla/*.crt > /etc/ssl/certs/ca-certificates.crt && chmod 1777 /tmp"
)

# A start on a read-only root would else compile everything, seconds that a pod's readiness waits for.
ALL_COMPILED = (
    "import os, sys; files = [m.__spec__.cached for m in sys.modules.values() if getattr(m, '__spec__', None)];"
    " missing = [f for f in files if f and not os.path.exists(f)]; assert not missing, missing"
)


def missing() -> str | None:
    """Return why no image can be built here, with the remedy."""
    if reason := tools.missing("buildah", "mmdebstrap"):
        return reason
    return None if os.geteuid() == 0 else needs.reason("root alone can build images", needs.AS_ROOT)


@dataclass(frozen=True)
class Images:
    """A store of images in ``folder``, kept between runs: layers whose inputs are the same are not made again."""

    folder: Path

    def buildah(self, *arguments: str | Path, timeout_s: float = 300) -> str:
        return self.run("buildah", *arguments, timeout_s=timeout_s)

    def run(self, *command: str | Path, timeout_s: float, **variables: str) -> str:
        environment = os.environ | {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            **variables,
        }
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    def prepare(self) -> None:
        """Make the store and the base, where they are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        roots = f'graphroot = "{self.folder}/layers"\nrunroot = "{self.folder}/run"\n'
        (self.folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{roots}')
        if self.buildah("images", "--quiet", "--filter", f"reference={BASE}"):
            return
        archive = self.folder / "base.tar"
        debian = ["mmdebstrap", "--quiet", "--variant=extract", "--mode=root", f"--include={_PACKAGES}"]
        self.run(*debian, *_STRIPPED, "bookworm", archive, timeout_s=600)
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, archive, "/", timeout_s=900)
        self.buildah("run", container, "--", "sh", "-c", _CONFIGURE)
        self.buildah("commit", "--quiet", "--rm", "--timestamp", "0", container, BASE, timeout_s=900)
        archive.unlink()

    def build(self, *parts: str, **variables: str) -> None:
        """Run ``images/build`` as a user does, on our base and under the tests' own names."""
        settings = {"BASE": BASE, "REGISTRY": REGISTRY} | variables
        self.run("images/build", *parts, timeout_s=1800, **settings)

    def with_pip(self, name: str) -> None:
        """Make an image of the base that has pip for its own Python."""
        if self.buildah("images", "--quiet", "--filter", f"reference={name}"):
            return
        container = self.buildah("from", "--pull-never", BASE)
        moved = (
            "mv /opt/pip/lib/python3*/site-packages/pip* /usr/lib/python3/dist-packages/ && rm -r /opt/pip"
        )
        self.buildah("run", container, "--", "sh", "-c", f"python3 -m venv /opt/pip && {moved}")
        self.buildah("commit", "--quiet", "--rm", "--timestamp", "0", container, name, timeout_s=900)

    def without_gpu(self, image: str, name: str) -> None:
        """Make an image of ``image`` that runs with a GPU that is none."""
        self.add(image, name, {Path(__file__).with_name("without_gpu.py"): "/opt/app/sitecustomize.py"})

    def add(self, image: str, name: str, files: dict[Path, str], **variables: str) -> None:
        """Make an image of ``image`` with these files at these places, and these variables."""
        container = self.buildah("from", "--pull-never", image)
        for file, place in files.items():
            self.buildah("copy", "--chmod", "0644", container, file, place)
        for key, value in variables.items():
            self.buildah("config", "--env", f"{key}={value}", container)
        self.buildah("commit", "--quiet", "--rm", "--timestamp", "0", container, name, timeout_s=900)

    def inside(self, image: str, *command: str) -> str:
        """Return what a command prints in a container of ``image``, as the image's own user."""
        container = self.buildah("from", "--pull-never", image)
        try:
            # Under `chroot`, buildah 1.28 loses what a command prints in one run of 40 on a busy machine: a file keeps it.
            kept = ("sh", "-c", 'exec "$@" >/tmp/printed', "sh")
            self.buildah("run", container, "--", *kept, *command, timeout_s=600)
            return (Path(self.buildah("mount", container)) / "tmp/printed").read_text().strip()
        finally:
            self.buildah("rm", container)

    def push(self, image: str, to: str, credentials: str) -> str:
        """Push to the registry on the loopback and return the digest under which it lies there."""
        digest = self.folder / "digest"
        # Compression costs more here than the bytes do.
        options = ["--disable-compression", "--tls-verify=false", "--creds", credentials]
        self.buildah("push", *options, "--digestfile", digest, image, f"docker://{to}", timeout_s=1200)
        return digest.read_text().strip()


@contextmanager
def store() -> Iterator[Images]:
    """Hold the store of this user, which test processes use one at a time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "assist-images"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        images = Images(cache)
        images.prepare()
        yield images
