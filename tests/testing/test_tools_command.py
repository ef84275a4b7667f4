"""What a user of `make test-tools` meets: the dry run, the question before sudo, a Python without packages."""

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from testing.tools import __main__ as command
from testing.tools import debian
from testing.tools.kits import kits
from testing.tools.store import staged
from tests.testing.conftest import Pin
from tests.testing.release_server import ReleaseServer

PROGRAM = b"#!/bin/sh\necho demo\n"


def test_a_dry_run_says_what_it_would_do_and_does_nothing(
    pin: Pin, releases: ReleaseServer, capsys: pytest.CaptureFixture[str]
):
    releases.files["/demo"] = PROGRAM
    entry = {"url": f"{releases.url}/demo", "sha256": hashlib.sha256(PROGRAM).hexdigest()}
    cache = pin(debian={"a-package": ["no-such-program", "a test"]}, downloads=[entry])
    assert command.main(["--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "apt-get install --yes --no-install-recommends a-package" in said
    assert "would get demo 1.0 (releases)" in said
    assert not cache.exists()


@pytest.mark.parametrize(("answer", "installed"), [("y", True), ("", False), ("no", False)])
def test_a_user_is_asked_before_sudo(
    pin: Pin,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    installed: bool,
    capsys: pytest.CaptureFixture[str],
):
    pin(debian={"a-package": ["no-such-program", "a test"]})
    with staged(kits()["demo"]) as made:
        (made / "demo").write_bytes(PROGRAM)
    ran: list[list[str]] = []
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return answer

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr(debian, "install", lambda names: ran.append(names))
    assert command.main([]) == (0 if installed else 1)
    assert ran == ([["a-package"]] if installed else [])
    assert "sudo apt-get install" in questions[0]
    assert installed or "run: sudo apt-get install" in capsys.readouterr().err


def test_without_a_terminal_nothing_is_asked_and_the_command_is_shown(
    pin: Pin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pin(debian={"a-package": ["no-such-program", "a test"]})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(debian, "install", lambda names: pytest.fail("it was installed"))
    with staged(kits()["demo"]) as made:
        (made / "demo").write_bytes(PROGRAM)
    assert command.main([]) == 1
    assert "run: sudo apt-get install --yes --no-install-recommends a-package" in capsys.readouterr().err


def test_the_command_needs_no_package_but_pythons_own(tmp_path: Path):
    environment = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path)}
    run = [
        "/usr/bin/python3",
        "-I",
        "-c",
        "import sys; sys.path.insert(0, '.'); import testing.tools.__main__ as m",
    ]
    run[-1] += "; sys.exit(m.main(['list', '--json']))"
    done = subprocess.run(
        run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["pulumi"]["version"] == kits()["pulumi"].version
    assert rows["git"]["found"] == "installed"
