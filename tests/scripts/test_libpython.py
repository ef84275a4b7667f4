"""Where the system has no libpython, it comes out of Debian's package, however long ldd goes on talking."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
LIBRARY = f"libpython{VERSION}.so.1.0"
LDD = """#!/bin/sh
echo "{line}"
seq 100000
"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def package(folder: Path) -> Path:
    """Make a Debian package that holds the library alone."""
    tree = folder / "tree"
    program(tree / f"usr/lib/x86_64-linux-gnu/{LIBRARY}", "the library")
    facts = {"Package": f"libpython{VERSION}", "Version": "1", "Architecture": "all"}
    facts |= {"Maintainer": "tests <tests@example.org>", "Description": "a test"}
    control = tree / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text("".join(f"{key}: {value}\n" for key, value in facts.items()))
    (folder / "debs").mkdir()
    build = ["dpkg-deb", "--build", tree, folder / f"debs/libpython{VERSION}_1_all.deb"]
    subprocess.run(build, check=True, capture_output=True)
    return folder / "debs"


@pytest.mark.parametrize(("said", "brought"), [("=> not found", True), ("=> /usr/lib/there", False)])
def test_the_library_is_brought_where_it_is_missing_and_there_alone(tmp_path, said, brought):
    venv = tmp_path / "venv"
    site = venv / f"lib/python{VERSION}/site-packages"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    stubs = site / f"pytriton/tritonserver/python_backend_stubs/{VERSION}"
    program(stubs / "triton_python_backend_stub", "")
    (site / "nvidia_pytriton.libs").mkdir()
    program(tmp_path / "bin/ldd", LDD.format(line=f"{LIBRARY} {said}"))
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = [ROOT / "scripts/libpython", venv, package(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=60)
    assert (site / "nvidia_pytriton.libs" / LIBRARY).exists() is brought
    assert (venv / "libpython.found").exists()
