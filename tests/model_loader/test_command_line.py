"""The command line; fault matrix rows L24, L28 and L30 (README.md); pinning and pruning."""

import json
import os
import secrets
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from model_loader.progress import FOLLOWED_INTERVAL_S, Followed
from model_loader.sources import pin
from model_loader.sources.protocols import FolderSource
from model_loader.store import staging
from model_loader.store.store import Store
from stackfile.version import VERSION
from testing import needs
from testing.doubles.hub import COMMIT, Answer, Hub
from tests.model_loader.lab import MODEL, REPOSITORY, Lab, plan_of, version
from tests.model_loader.test_crashes import REPO_ROOT, write_manifest
from tests.model_loader.test_tls import certificate

BIG = "model.safetensors"


def loader(*arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "model_loader", *map(str, arguments)], env={**clean, "PYTHONPATH": str(REPO_ROOT), **env},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _base(lab: Lab) -> str:
    return f"{lab.hub.url}/{REPOSITORY}/resolve/v2"


@pytest.fixture
def manifest(lab: Lab, tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "wanted.json", lab.plan())


def test_L24_oci_artifacts_are_refused_with_the_sources_that_exist(tmp_path: Path) -> None:
    done = loader("fetch", "tiny-codegen", "--store", tmp_path / "s", "--source", "oci://registry.example/m")
    assert done.returncode != 0
    assert (
        "source oci:// is not supported: use https, s3, gs, file, hub+https or a path"
        in done.stdout + done.stderr
    )


@pytest.mark.parametrize("shift", ["+2y", "-2y"])
def test_L28_a_clock_two_years_off_gives_a_clear_tls_error(
    lab: Lab, tmp_path: Path, manifest: Path, shift: str
) -> None:
    needs.program("faketime")
    cert, context = certificate(tmp_path, "IP:127.0.0.1")
    secure = Hub(lab.files, tls=context)
    lab.others.append(secure)
    command = [
        "faketime",
        "-f",
        shift,
        sys.executable,
        "-m",
        "model_loader",
        "fetch",
        MODEL,
        "--store",
        lab.root,
    ]
    command += ["--manifest", manifest, "--source", f"{secure.url}/x", "--ca", cert, "--json"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, cwd=REPO_ROOT, check=False
    )
    assert done.returncode == 1
    assert "clock" in json.loads(done.stdout.splitlines()[-1])["reason"]
    lab.verdict("v1")


def test_L28_a_time_step_during_a_download_makes_no_negative_wait(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter([0.0, 9e8, -9e8] * 1000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(steps))
    lab.hub.script = lambda s: Answer(status=429, headers={"Retry-After": "0"}) if s.number == 0 else None
    lab.fetch()
    assert all(f["delay"] >= 0 for k, f in lab.heard.events if k == "retry")
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize("status", [None, 401, 404, 500])
def test_L30_the_token_is_in_no_log_argument_file_or_environment(
    lab: Lab, tmp_path: Path, manifest: Path, status: int | None
) -> None:
    # A token of its own: tests that run at the same time hand the usual one to their loaders.
    token = f"hf_{secrets.token_hex(12)}"
    secret = tmp_path / "token"
    secret.write_text(token + "\n")
    seen_in_proc = []

    def script(_seen):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                except OSError:
                    continue
                seen_in_proc.append(token.encode() in text)
        return Answer(status=status) if status else None

    lab.hub.script = script
    done = loader(
        "fetch", MODEL, "--store", lab.root, "--manifest", manifest, "--source", _base(lab), "--json",
        "--token-file", secret, "--set", "tries=2", "--set", "wait-cap=0.1",
    )  # fmt: skip
    assert done.returncode == (1 if status else 0)
    assert token not in done.stdout + done.stderr
    assert seen_in_proc
    assert not any(seen_in_proc)
    assert not any(token.encode() in path.read_bytes() for path in lab.root.rglob("*") if path.is_file())
    assert lab.hub.seen[0].headers["authorization"] == f"Bearer {token}"
    lab.verdict("v1" if status else "v2")


def test_the_command_prints_json_lines_and_exits_0_and_again_does_nothing(lab: Lab, manifest: Path) -> None:
    arguments = ("fetch", MODEL, "--store", lab.root, "--manifest", manifest, "--source", _base(lab))
    first, second = loader(*arguments), loader(*arguments)
    assert first.returncode == second.returncode == 0, first.stdout + first.stderr
    events = [json.loads(line)["event"] for line in first.stdout.splitlines()]
    assert [event for event in events if event != "progress"] == ["start", "published", "done"]
    assert [json.loads(line)["event"] for line in second.stdout.splitlines()] == ["present", "done"]
    lab.verdict("v2", staging=False)


def test_a_dry_run_writes_nothing(lab: Lab, manifest: Path) -> None:
    done = loader(
        "fetch", MODEL, "--store", lab.root, "--manifest", manifest, "--source", _base(lab), "--dry-run"
    )
    assert json.loads(done.stdout)["event"] == "would fetch"
    assert lab.hub.seen == []
    lab.verdict("v1", staging=False)


@pytest.mark.parametrize(
    "arguments", [("fetch",), ("fetch", "m", "--store", "x", "--set", "speed=9"), ("nope",), ("fetch", "m", "--store", "x", "--runtime", "y")]
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert loader(*arguments).returncode == 2


@pytest.mark.parametrize("command", ["fetch", "verify", "list", "prune", "import"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    done = loader(command, "--help")
    assert done.returncode == 0
    assert f"model-loader {command}" in done.stdout


def test_the_version_is_the_projects() -> None:
    assert loader("--version").stdout == f"model-loader {VERSION}\n"


@pytest.mark.parametrize(
    ("typed", "completed"), [("model-loader ver", "verify"), ("model-loader fetch --all", "--allow-unpinned")]
)
def test_the_shell_completes_commands_and_options(typed: str, completed: str) -> None:
    words = typed.split()
    done = loader(_MODEL_LOADER_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1))
    assert completed in done.stdout.split()


def test_verify_names_the_bad_file_and_repair_fetches_it(lab: Lab, manifest: Path, tmp_path: Path) -> None:
    loader("fetch", MODEL, "--store", lab.root, "--manifest", manifest, "--source", _base(lab))
    target = lab.root / MODEL / "v2" / BIG
    target.chmod(0o644)
    target.write_bytes(b"rot")
    checked = loader("verify", MODEL, "--store", lab.root)
    assert checked.returncode == 1
    assert '"kind": "size"' in checked.stdout
    repaired = loader("verify", MODEL, "--store", lab.root, "--repair", "--source", _base(lab))
    assert repaired.returncode == 0, repaired.stdout
    lab.verdict("v2", staging=False)


def test_prune_keeps_current_and_the_one_before(lab: Lab) -> None:
    for number in (2, 3, 4):
        lab.hub.files = version(number)
        lab.fetch(plan_of(version(number), f"v{number}"))
    assert Store(lab.root).prune(MODEL, older_than_s=3600) == []
    done = loader("prune", MODEL, "--store", lab.root, "--older-than-h", "0")
    assert done.returncode == 0
    assert [p.name for p in Store(lab.root).revisions(MODEL)] == ["v3", "v4"]
    lab.verdict("v4", staging=False)


def test_dead_staging_is_swept_after_its_time(lab: Lab) -> None:
    old = lab.root / ".staging" / "d" / "free.00"
    (old / "parts").mkdir(parents=True)
    (old / "parts" / "x.part").write_bytes(b"x")
    assert staging.sweep(lab.root, 3600) == []
    assert staging.sweep(lab.root, 0) == ["free.00"]
    lab.verdict("v1", staging=False)


def test_pinning_records_the_commit_and_every_checksum(lab: Lab) -> None:
    pinned = pin.resolve(lab.source("main"), [BIG, "config.json"], "main")
    assert pinned.revision == COMMIT
    assert {f.path: (f.size, f.sha256) for f in pinned.files} == {
        n: (len(d), sha256(d).hexdigest()) for n, d in lab.files.items()
    }
    assert lab.hub.gets(BIG) == []


def test_pinning_a_path_the_hub_lacks_names_what_it_has(lab: Lab) -> None:
    with pytest.raises(Exception, match=r"config\.json"):
        pin.resolve(lab.source("main"), ["nope.json"], "main")


def test_a_local_folder_is_a_source_like_any_other(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, data in lab.files.items():
        (folder / name).write_bytes(data)
    lab.fetch(source=FolderSource(folder))
    lab.verdict("v2", staging=False)


def test_a_file_that_is_followed_has_the_progress_and_a_second_source_counts_anew(tmp_path: Path) -> None:
    with Followed(str(tmp_path / "events")) as reporter:
        for _ in range(2):
            reporter.expect(1000)
            reporter.add(500)
        time.sleep(FOLLOWED_INTERVAL_S)
        reporter.add(100)
    (line,) = map(json.loads, (tmp_path / "events").read_text().splitlines())
    assert (line["event"], line["bytes"], line["total"]) == ("progress", 600, 1000)
    assert line["bytes_per_second"] > 0
    assert line["seconds_left"] > 0


def test_a_file_that_cannot_be_followed_does_not_end_the_run(tmp_path: Path) -> None:
    with Followed(str(tmp_path / "none" / "events")) as reporter:
        reporter.event("start")
