"""The commands as a user types them: `assist bundle`, and Python's own where nothing is installed."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from assist.bundle import __main__ as plain
from assist.bundle import archive, signatures, signing_keys
from assist.bundle import cli as commands
from assist.bundle.cli import bundle
from assist.paths import SOURCE

run = CliRunner()


@pytest.fixture
def public(small):
    file = small.folder / "small.pub"
    file.write_text(small.key.text())
    return file


def test_verify_says_what_the_bundle_is_for_and_holds(small, public):
    done = run.invoke(bundle, ["verify", str(small.archive), "--key", str(public), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["status"], result["stack"], result["files"]) == ("verified", "small", 4)


@pytest.mark.parametrize("command", ["verify", "install"])
def test_a_refusal_is_one_sentence_and_exit_status_1(small, public, command):
    small.archive.write_bytes(b"no archive at all")
    done = run.invoke(bundle, [command, str(small.archive), "--key", str(public)])
    assert done.exit_code == 1
    assert "Copy the bundle again" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_of_a_stack_names_every_wheel_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["list"], ["build", "--dry-run"]):
        done = run.invoke(bundle, [*arguments, "--stack", "local", "--json"])
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        assert {"pip", "uv", "ctranslate2"} <= {name.partition("==")[0] for name in result["wheels"]}
    assert not list(tmp_path.iterdir())


def test_a_stack_that_does_not_exist_is_a_wrong_question(tmp_path):
    done = run.invoke(bundle, ["list", "--stack", "no-such-stack"])
    assert done.exit_code == 2
    assert "does not exist" in done.stderr


def test_building_without_a_key_says_how_to_make_one(tmp_path):
    done = run.invoke(bundle, ["build", "--key", str(tmp_path / "none.key"), "--output", str(tmp_path / "x")])
    assert done.exit_code == 1
    assert "assist bundle key" in done.stderr
    assert not (tmp_path / "x").exists()


def test_images_that_nobody_has_built_stop_the_build_and_leave_no_archive(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    signing_keys.generate(tmp_path / "a.key")
    monkeypatch.setattr("assist.bundle.wheels.gather", lambda *_: {})
    target = tmp_path / "kube.bundle"
    arguments = ["build", "--stack", "kube-local", "--key", str(tmp_path / "a.key"), "--output", str(target)]
    done = run.invoke(bundle, arguments)
    assert done.exit_code == 1
    assert "image localhost/ai-assist/gateway" in done.stderr
    assert "--allow-missing" in done.stderr
    assert not target.exists()
    done = run.invoke(bundle, [*arguments, "--allow-missing", "--json"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["missing"]) == 3


def test_python_alone_verifies_and_refuses(small, public):
    command = [sys.executable, "-m", plain.__package__, "verify", small.archive, "--key", public, "--json"]
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "verified"
    small.archive.write_bytes(b"something else")
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not a bundle" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Move the default key and its former place to a folder of the test."""
    new, former = tmp_path / "ai-assist/bundle.key", tmp_path / "assist-infra/bundle.key"
    monkeypatch.setattr(commands, "DEFAULT_KEY", new)
    monkeypatch.setattr(commands, "FORMER_KEY", former)
    signing_keys.generate(former)
    return new, former


def test_a_key_at_the_former_place_still_signs_with_a_warning_that_has_the_remedy(
    homes, tmp_path, monkeypatch
):
    new, former = homes
    monkeypatch.setattr("assist.bundle.wheels.gather", lambda *_: {})
    target = tmp_path / "local.bundle"
    done = run.invoke(
        bundle,
        ["build", "--stack", "kube-local", "--allow-missing", "--output", str(target), "--key", str(new)],
    )
    assert done.exit_code == 0, done.output
    assert f"mv {former.parent}/bundle.* {new.parent}/" in done.stderr
    archive.verify(target, signatures.read_public(signing_keys.public_name(former)))


def test_a_key_at_the_new_place_is_taken_without_a_warning(homes, tmp_path, monkeypatch):
    new, _ = homes
    signing_keys.generate(new)
    monkeypatch.setattr("assist.bundle.wheels.gather", lambda *_: {})
    target = tmp_path / "local.bundle"
    done = run.invoke(
        bundle,
        ["build", "--stack", "kube-local", "--allow-missing", "--output", str(target), "--key", str(new)],
    )
    assert done.exit_code == 0, done.output
    assert "mv " not in done.stderr
    archive.verify(target, signatures.read_public(signing_keys.public_name(new)))


def test_no_second_key_is_made_beside_the_former_one(homes):
    new, former = homes
    done = run.invoke(bundle, ["key", str(new)])
    assert done.exit_code == 1
    assert str(former) in done.stderr
    assert not new.exists()
