"""The wheel: what works without a clone, and what says that it needs one (docs/adr/0012)."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from stackfile.version import VERSION

STACK = "name: mine\ntarget: local\nmodel: codegen-350M-mono\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory) -> Path:
    """Unpack the wheel, which is what installing one of pure Python without its dependencies does."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def run(installed: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the wheel where the clone cannot be seen."""
    program = f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]; sys.path.insert(0, {str(installed)!r}); "
    program += f"sys.argv[0] = {module!r}; import runpy; runpy.run_module({module!r}, run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        cwd=installed, env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip


def test_the_wheel_has_the_packages_the_catalogue_and_the_version_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {
        "assist",
        "gateway",
        "model_loader",
        "monitoring",
        "serving",
        "stackfile",
        f"ai_assist-{VERSION}.dist-info",
    }
    assert {"stackfile/_catalogue/models.yaml", "monitoring/alerts.yaml"} <= set(names)
    assert not [name for name in names if name.startswith("monitoring/dashboards")]
    assert {f"{package}/py.typed" for package in ("gateway", "stackfile", "model_loader")} <= set(names)


@pytest.mark.parametrize(
    ("module", "expected"), [("assist", VERSION), ("model_loader", f"model-loader {VERSION}")]
)
def test_the_commands_tell_their_version(installed, module, expected):
    done = run(installed, module, "--version")
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def test_the_catalogue_is_read_from_the_wheel(installed):
    done = run(installed, "assist", "models", "list")
    assert done.returncode == 0, done.stderr
    assert "codegen-350M-mono" in done.stdout


def test_a_stack_file_is_resolved_without_a_clone(installed, tmp_path):
    (tmp_path / "mine.yaml").write_text(STACK)
    done = run(installed, "assist", "show", "--stack", str(tmp_path / "mine.yaml"))
    assert done.returncode == 0, done.stderr
    assert "codegen-350M-mono" in done.stdout


def test_what_needs_a_clone_says_so(installed, tmp_path):
    (tmp_path / "mine.yaml").write_text(STACK)
    done = run(installed, "assist", "up", "--stack", str(tmp_path / "mine.yaml"))
    assert done.returncode == 2
    assert "needs a clone" in done.stderr
