"""Fault matrix rows L17, L19, L20 (README.md): killed at any point, several loaders at once, locks without effect."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model_loader import plan as plans
from model_loader.download.part_file import HEADER
from testing.doubles.hub import Answer
from testing.until import until
from tests.model_loader.lab import MODEL, REPOSITORY, SEGMENT, TOKEN, Lab, plan_of, version

BIG = "model.safetensors"
REPO_ROOT = Path(__file__).resolve().parents[2]

# Runs the loader in a child, ended by SIGKILL at the n-th system call that Python's audit hook or our own sees.
CHILD = """
import os, signal, sys
at = int(os.environ.get("KILL_AT", "-1"))
seen = 0
def step(name):
    global seen
    seen += 1
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)
def around(owner, name):
    real = getattr(owner, name)
    def call(*a, **k):
        step(name)
        result = real(*a, **k)
        step(name)
        return result
    setattr(owner, name, call)
for name in os.environ.get("KILL_CALLS", "").split():
    around(os, name)
if os.environ.get("NO_FLOCK"):
    import fcntl
    fcntl.flock = lambda *_: None
from model_loader.cli import main
try:
    main()
finally:
    print("STEPS", seen, file=sys.stderr)
"""
CALLS = "open pwrite fsync rename replace link symlink mkdir unlink rmdir ftruncate posix_fallocate chmod"


def command(lab: Lab, manifest: Path, *extra: str) -> list[str]:
    base = f"{lab.hub.url}/{REPOSITORY}/resolve/v2"
    tuning = [
        "--set",
        "segment-kib=256",
        "--set",
        "margin-mib=1",
        "--set",
        "connections=2",
        "--set",
        "wait-cap=0.1",
    ]
    arguments = [
        "fetch",
        MODEL,
        "--store",
        str(lab.root),
        "--source",
        base,
        "--manifest",
        str(manifest),
        "--json",
    ]
    return [sys.executable, "-c", CHILD, *arguments, *tuning, *extra]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO_ROOT), "HF_TOKEN": TOKEN, **more}


def write_manifest(path: Path, plan: plans.Plan) -> Path:
    files = [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in plan.files]
    path.write_text(json.dumps({"model": plan.model, "revision": plan.revision, "files": files}))
    return path


@pytest.fixture
def manifest(lab: Lab, tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "wanted.json", lab.plan())


def run(argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_L17_sigkill_at_every_kind_of_step_converges_without_orphans(lab: Lab, manifest: Path) -> None:
    whole = run(command(lab, manifest), environment(KILL_CALLS=CALLS))
    assert whole.returncode == 0, whole.stderr
    steps = int(whole.stderr.split("STEPS")[1])
    assert steps > 60
    lab.verdict("v2", staging=False)
    points = sorted(random.Random(17).sample(range(1, steps), 50))
    for point in points:
        lab.reset_to_v1()
        killed = run(command(lab, manifest), environment(KILL_CALLS=CALLS, KILL_AT=str(point)))
        assert killed.returncode in {-signal.SIGKILL, 0}
        assert (lab.root / MODEL / "current").readlink().name in {"v1", "v2"}
        lab.fetch()
        lab.verdict("v2", staging=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_L17_fifty_crashes_in_a_row_leave_no_growing_orphans_and_every_byte_is_kept(
    lab: Lab, manifest: Path
) -> None:
    whole = run(command(lab, manifest), environment(KILL_CALLS=CALLS))
    steps = int(whole.stderr.split("STEPS")[1])
    lab.reset_to_v1()
    chance = random.Random(50)
    sizes = []
    for _ in range(50):
        # Beyond the last step of a run that goes on where the one before was killed: that one ends by itself.
        run(command(lab, manifest), environment(KILL_CALLS=CALLS, KILL_AT=str(chance.randrange(1, steps))))
        sizes.append(sum(1 for p in (lab.root / ".staging").rglob("*") if p.is_file()))
        assert (lab.root / MODEL / "current").readlink().name in {"v1", "v2"}
    assert max(sizes) <= 8
    lab.fetch()
    lab.verdict("v2", staging=False)


HALF = 6 * SEGMENT  # bytes: whole segments, past the middle of the weights


def arrived(lab: Lab) -> int:
    """Return how many bytes of the weights a run has written, by its own marks."""
    marks = [
        memoryview(path.read_bytes()[HEADER:]).cast("Q")
        for path in (lab.root / ".staging").rglob("*.progress")
    ]
    return sum(map(sum, marks))


def killed_half_way(lab: Lab, manifest: Path) -> int:
    """Kill a run that has the first half of the weights; return what the hub had sent until then."""
    lab.hub.script = lambda s: Answer(stall_s=300) if s.path.endswith(BIG) and s.start >= HALF else None
    child = subprocess.Popen(command(lab, manifest), env=environment(), stdout=subprocess.DEVNULL)
    until(lambda: arrived(lab) == HALF)
    child.kill()
    child.wait()
    lab.verdict_current("v1")
    lab.hub.script = lambda s: None
    assert lab.hub.sent >= HALF
    return lab.hub.sent


def test_L17_a_killed_run_continues_from_the_byte_reached(lab: Lab, manifest: Path) -> None:
    reached = killed_half_way(lab, manifest)
    lab.fetch()
    assert lab.hub.sent - reached <= len(lab.files[BIG]) - HALF + 2 * SEGMENT
    lab.verdict("v2", staging=False)


def owned_elsewhere(lab: Lab, field: int) -> None:
    """Give the killed run's folder the name that an owner of another machine (0) or container (1) has."""
    (home,) = (lab.root / ".staging").iterdir()
    (folder,) = [path for path in home.iterdir() if path.is_dir()]
    fields = folder.name.split(".")
    fields[field] = "0" * len(fields[field])
    folder.rename(home / ".".join(fields))


def test_L17_a_killed_pods_successor_continues_at_once(lab: Lab, manifest: Path) -> None:
    reached = killed_half_way(lab, manifest)
    owned_elsewhere(lab, 1)
    lab.fetch()
    assert lab.hub.sent - reached <= len(lab.files[BIG]) - HALF + 2 * SEGMENT
    lab.verdict("v2", staging=False)


def test_L19_what_another_machine_may_still_write_is_left_alone(lab: Lab, manifest: Path) -> None:
    reached = killed_half_way(lab, manifest)
    owned_elsewhere(lab, 0)
    lab.fetch()
    assert lab.hub.sent - reached >= len(lab.files[BIG])
    lab.verdict("v2")


def test_L17_sigterm_ends_at_once_and_says_so(lab: Lab, manifest: Path) -> None:
    lab.hub.script = lambda s: Answer(stall_s=300) if s.path.endswith(BIG) else None
    child = subprocess.Popen(command(lab, manifest), env=environment(), stdout=subprocess.PIPE, text=True)
    until(lambda: lab.hub.gets(BIG))
    child.terminate()
    out, _ = child.communicate(timeout=100)
    assert child.returncode == 128 + signal.SIGTERM
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"
    lab.hub.script = lambda s: None
    lab.fetch()
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize("loaders", [2, 6])
def test_L19_several_loaders_on_one_store_download_once(lab: Lab, manifest: Path, loaders: int) -> None:
    children = [
        subprocess.Popen(command(lab, manifest), env=environment(), stdout=subprocess.DEVNULL)
        for _ in range(loaders)
    ]
    assert [child.wait(timeout=200) for child in children] == [0] * loaders
    assert lab.hub.sent <= sum(map(len, lab.files.values())) + 1024
    lab.verdict("v2", staging=False)


def test_L19_a_lock_that_does_nothing_still_gives_one_valid_publish(lab: Lab, manifest: Path) -> None:
    env = environment(NO_FLOCK="1")
    children = [
        subprocess.Popen(command(lab, manifest), env=env, stdout=subprocess.DEVNULL) for _ in range(4)
    ]
    assert [child.wait(timeout=200) for child in children] == [0] * 4
    lab.verdict("v2", staging=False)


def test_L19_a_loader_killed_with_the_lock_held_does_not_block_the_next(lab: Lab, manifest: Path) -> None:
    lab.hub.script = lambda s: Answer(stall_s=300) if s.path.endswith(BIG) else None
    child = subprocess.Popen(command(lab, manifest), env=environment(), stdout=subprocess.DEVNULL)
    until(lambda: lab.hub.gets(BIG))
    child.kill()
    child.wait()
    lab.hub.script = lambda s: None
    lab.fetch()
    lab.verdict("v2", staging=False)


def test_L20_two_manifests_at_once_are_both_published_and_current_is_the_last_command(
    lab: Lab, manifest: Path, tmp_path: Path
) -> None:
    third = {"model.safetensors": lab.files[BIG], "config.json": b'{"v": 3}'}
    lab.hub.files = {**lab.files, "config.json": lab.files["config.json"]}
    plan = plan_of({BIG: third[BIG]}, "v3")
    other = write_manifest(tmp_path / "third.json", plan)
    children = [
        subprocess.Popen(command(lab, m), env=environment(), stdout=subprocess.DEVNULL)
        for m in (manifest, other)
    ]
    assert [child.wait(timeout=200) for child in children] == [0, 0]
    assert {"v1", "v2", "v3"} == {p.name for p in (lab.root / MODEL).iterdir() if not p.is_symlink()}
    lab.fetch(plan)
    lab.verdict("v3", staging=False)
    lab.fetch()
    lab.verdict("v2", staging=False)


def test_L20_other_content_under_a_used_revision_name_never_overwrites_it(lab: Lab) -> None:
    lab.fetch()
    lab.files = lab.hub.files = version(5)
    folder = lab.fetch()
    assert folder.name == f"v2-{lab.published_digest(folder)[:12]}"
    lab.verdict(folder.name, staging=False)
    assert (lab.root / MODEL / "previous").readlink().name == "v2"
