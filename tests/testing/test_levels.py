"""Every test has one level, every skip a remedy, and a run ends with a table that says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from testing import needs
from testing.levels import LEVELS, level_of

WRITTEN = {
    "tests/serving/test_parts.py": """
        import pytest
        from testing import needs

        def test_a(): ...

        @pytest.mark.parametrize("n", range(3))
        def test_b(n): ...

        @pytest.mark.triton
        def test_server():
            needs.skip("no tritonserver is installed", "make test-tools")

        @pytest.mark.triton
        @pytest.mark.xfail(reason="known")
        def test_broken():
            raise AssertionError
    """,
    "tests/integration/faults/test_all.py": """
        import pytest

        @pytest.fixture
        def machine():
            pytest.skip("mounting needs root; run: sudo make test")

        def test_a(machine): ...

        def test_b(machine): ...

        @pytest.mark.long
        def test_for_minutes(): ...
    """,
}
PROCESSES = [[], ["-n", "2", "--dist", "loadfile"]]
TABLE = """
level        ran  skipped  why (tests)                                                       to run them
unit           4        0
engine         1        1  no tritonserver is installed (1)                                  make test-tools
scenario       0        2  mounting needs root (2)                                           sudo make test
long           1 tests of these levels take minutes each and were left out: make test-long
"""


@pytest.fixture
def run(tmp_path: Path):
    """Return a function that writes tests and runs them with the plugin."""

    def write_and_run(files: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib --strict-markers\n")
        (tmp_path / "conftest.py").write_text(
            "pytest_plugins = ['testing.levels']\n"
            "def pytest_configure(config):\n    config.addinivalue_line('markers', 'triton: real')\n"
        )
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("\n".join(line[8:] for line in text.splitlines()))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "xdist", *arguments],
            cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return write_and_run


@pytest.mark.parametrize("processes", PROCESSES, ids=["one", "several"])
def test_a_run_ends_with_the_table_in_one_process_and_in_several(run, processes):
    done = run(WRITTEN, *processes)
    assert done.returncode == 0, done.stdout
    assert TABLE in done.stdout


def test_long_tests_run_where_they_are_asked_for(run):
    done = run(WRITTEN, "-m", "long")
    assert "scenario       1        0" in done.stdout
    assert "left out" not in done.stdout


UNHELPFUL = {
    "tests/test_no_remedy.py": """
        import pytest

        def test_a():
            pytest.skip("no such thing here")
    """,
    "tests/test_no_reason.py": """
        import pytest

        @pytest.mark.skip
        def test_a(): ...
    """,
    "tests/test_file.py": """
        import pytest

        pytest.skip("not here; run: make it", allow_module_level=True)
    """,
    "tests/test_package.py": """
        import pytest

        runtime = pytest.importorskip("no_runtime")
    """,
}


@pytest.mark.parametrize("processes", PROCESSES, ids=["one", "several"])
def test_a_skip_that_helps_nobody_fails_the_run(run, processes):
    done = run(WRITTEN | UNHELPFUL, *processes)
    assert done.returncode == 1
    for name in ("no_remedy.py::test_a", "no_reason.py::test_a"):
        assert re.search(
            f'WITHOUT REMEDY tests/test_{name}: .*end the reason with "; run: COMMAND"', done.stdout
        )
    for name in ("file.py", "package.py"):
        assert re.search(f"WITHOUT REMEDY tests/test_{name}: a whole file is skipped", done.stdout)


def test_a_marker_goes_before_the_path_and_a_program_makes_a_test_one_of_the_engine():
    assert level_of("tests/stackfile/test_gke.py") == "unit"
    assert level_of("tests/stackfile/test_gke.py", ["slow", "redis"]) == "engine"
    assert level_of("tests/gateway/auth/test_replay_auth.py", ["triton"]) == "contract"
    assert level_of("tests/integration/hosts/test_rolling_three.py", ["root"]) == "scenario"
    assert level_of("tests/integration/hosts/test_converge.py", ["root"]) == "engine"
    assert level_of("tests/integration/faults/test_load.py", ["unit"]) == "unit"


def test_two_levels_for_one_test_are_refused(run):
    with pytest.raises(ValueError, match=r"tests/x\.py is marked unit and engine"):
        level_of("tests/x.py", ["engine", "unit"])
    text = "        import pytest\n        @pytest.mark.unit\n        @pytest.mark.engine\n        def test_a(): ...\n"
    done = run({"tests/test_one.py": text})
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "a test is of one level" in done.stderr


def test_a_missing_package_is_a_skip_and_a_broken_one_an_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_runtime.py").write_text("import a_part_that_is_not_there\n")
    with pytest.raises(
        pytest.skip.Exception, match="the Python package no_runtime is not installed; run: make test"
    ):
        needs.package("no_runtime")
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_not_there"):
        needs.package("broken_runtime")


def test_every_level_is_explained():
    assert list(LEVELS) == ["unit", "contract", "engine", "scenario"]
    assert all(LEVELS.values())


@pytest.mark.parametrize("processes", PROCESSES, ids=["one", "several"])
def test_one_level_runs_alone_where_it_is_chosen(run, processes):
    done = run(WRITTEN, *processes, "--level=unit")
    assert done.returncode == 0, done.stdout
    assert "unit           4        0" in done.stdout
    assert not re.search(r"^(engine|scenario) ", done.stdout, re.MULTILINE)
