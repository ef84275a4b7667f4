"""Model loader against huggingface_hub: one loopback server, 2 GB in 4 files, paired runs.

The loader also hashes, syncs and publishes; huggingface_hub does not. A third row therefore adds hashing
to huggingface_hub (`sha256sum`, 2 at once), the least that a user must do for the same trust.
Usage: python benchmarks/bench_loader.py [--runs 3] [--mib 512] [--folder /dev/shm]
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / ".work"
HUB_VERSION = "2.4.0"
FILES = 4

Result = tuple[float, float, float]

HUB = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("bench/model", revision="main", cache_dir=sys.argv[1])
"""


def hub_python() -> Path:
    """Return a Python with huggingface_hub, which uv installs at the first run."""
    folder = WORK / f"hub-{HUB_VERSION}"
    python = folder / "bin" / "python"
    if not (folder / ".done").exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", "3.11", str(folder)], check=True)
        install = [
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            f"huggingface_hub=={HUB_VERSION}",
        ]
        subprocess.run(install, check=True)
        (folder / ".done").touch()
    return python


def make_files(folder: Path, mib: int) -> None:
    folder.mkdir()
    chunk = random.Random(1).randbytes(1024 * 1024)
    head = (2).to_bytes(8, "little") + b"{}"
    for number in range(FILES):
        with (folder / f"model-{number}.safetensors").open("wb") as file:
            file.write(head + number.to_bytes(2, "little") + chunk[12:])
            for _ in range(mib - 1):
                file.write(chunk)


def measure(argv: list[str], environment: dict[str, str]) -> Result:
    """Run a child; return wall seconds, its processor seconds and its peak resident memory in MiB."""
    began = time.perf_counter()
    child = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{argv[:4]} failed with {child.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def loader_run(base: str, manifest: Path, target: Path) -> Result:
    argv = [sys.executable, "-m", "model_loader", "fetch", "bench", "--store", str(target), "--json"]
    return measure([*argv, "--source", base, "--manifest", str(manifest)], dict(os.environ))


def hub_run(python: Path, endpoint: str, target: Path) -> Result:
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = {**os.environ, **quiet, "HF_ENDPOINT": endpoint, "HF_HOME": str(target)}
    return measure([str(python), "-c", HUB, str(target)], environment)


def hash_run(folder: Path) -> float:
    paths = sorted(str(p) for p in folder.iterdir())
    return measure(["xargs", "-P2", "-n1", "-a", _list(paths), "sha256sum"], dict(os.environ))[0]


def _list(paths: list[str]) -> str:
    WORK.mkdir(exist_ok=True)
    (WORK / "paths").write_text("\n".join(paths))
    return str(WORK / "paths")


def compare(scratch: Path, runs: int, mib: int) -> None:
    files = scratch / "files"
    make_files(files, mib)
    python = hub_python()
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks" / "range_server.py"), str(files)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        facts = json.loads(server.stdout.readline())
        endpoint = f"http://127.0.0.1:{facts['port']}"
        manifest = scratch / "manifest.json"
        rows = [{"path": n, "size": mib * 1024 * 1024, "sha256": d} for n, d in facts["digests"].items()]
        manifest.write_text(json.dumps({"model": "bench", "revision": "1", "files": rows}))
        ours, theirs = [], []
        for number in range(runs):
            pair = [("ours", ours), ("theirs", theirs)]
            for name, results in pair if number % 2 == 0 else reversed(pair):
                target = scratch / "target"
                base = f"{endpoint}/bench/model/resolve/main"
                result = (
                    loader_run(base, manifest, target)
                    if name == "ours"
                    else hub_run(python, endpoint, target)
                )
                results.append(result)
                shutil.rmtree(target)
                os.sync()  # one run's dirty pages are not the next one's burden
        report(ours, theirs, hash_run(files), FILES * mib)
    finally:
        server.terminate()
        server.wait()


def report(ours: list[Result], theirs: list[Result], hashing: float, mib: int) -> None:
    mine, other = (statistics.median(r[0] for r in results) for results in (ours, theirs))
    print(f"{'':34}{'median s':>10}{'MiB/s':>9}{'cpu s':>8}{'peak MiB':>10}   all runs")
    rows = (
        ("model-loader (verified, synced)", mine, ours),
        (f"huggingface_hub {HUB_VERSION}", other, theirs),
    )
    for name, seconds, results in rows:
        busy, peak = statistics.median(r[1] for r in results), max(r[2] for r in results)
        runs = " ".join(f"{r[0]:.2f}" for r in results)
        print(f"{name:34}{seconds:10.2f}{mib / seconds:9.0f}{busy:8.2f}{peak:10.0f}   {runs}")
    print(f"{'huggingface_hub + sha256sum':34}{other + hashing:10.2f}{mib / (other + hashing):9.0f}")
    ratios = sorted(t[0] / o[0] for o, t in zip(ours, theirs, strict=True))
    median = statistics.median(ratios)
    print(
        f"ratio hub/loader, median of pairs: {median:.2f}; with the hashing: {(other + hashing) / mine:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mib", type=int, default=512, help="MiB per file, four files")
    parser.add_argument("--folder", type=Path, default=None, help="where to write (default: TMPDIR)")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        compare(Path(scratch), arguments.runs, arguments.mib)


if __name__ == "__main__":
    main()
