"""The image for GPUs, whose public base can't be had here: built on a stand-in with what it uses of that base."""

import subprocess
import sys
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from stackfile.version import VERSION
from tests.integration.node import images

pytestmark = pytest.mark.slow

NVIDIAS = "localhost/like-nvidias-triton:12"
# The Python of nvcr.io/nvidia/tritonserver:25.07-py3, which is Ubuntu 24.04.
PYTHON = "3.12"


@pytest.fixture(scope="module")
def image() -> str:
    """Build ``images/triton.Containerfile`` on a base that has pip, as NVIDIA's has and ours does not."""
    if reason := images.missing():
        pytest.skip(reason)
    with images.store() as store:
        store.with_pip(NVIDIAS)
        store.build("triton", BASE_TRITON=NVIDIAS)
    return f"{images.REGISTRY}/triton:{VERSION}-gpu"


def test_it_runs_our_backends_command_as_its_own_user(image):
    with images.store() as store:
        assert store.inside(image, "id", "-u") == "10001"
        assert "--help" in store.inside(image, "python", "-m", "serving.tritonserver", "--help")
        store.inside(image, "python", "-c", f"import serving.tritonserver; {images.ALL_COMPILED}")
        assert "ctranslate2" in store.inside(image, "cat", "/opt/venv/sbom.cdx.json")


def test_every_package_in_it_has_a_locked_wheel_for_the_public_bases_python(tmp_path: Path):
    command = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--target", str(tmp_path), "-r"]
    command += [str(ROOT / "requirements/serving.txt"), "--python-version", PYTHON]
    command += ["--python-platform", "x86_64-manylinux_2_39"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
