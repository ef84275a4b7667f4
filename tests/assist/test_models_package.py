"""`assist models package`: wheels that pip and uv accept, and that the loader turns into the same model again."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from assist.cli import app
from model_loader.sources.protocols import FolderSource
from stackfile import catalogue
from testing.doubles.hub import Answer, Seen
from testing.doubles.package_index import PackageIndex
from testing.until import until
from tests.model_loader.lab import Lab, plan_of, version

FILES = version(7)
MODEL = "demo"
LOADER = """
import sys
from pathlib import Path
from stackfile import catalogue
catalogue.DIRECTORY = Path(sys.argv.pop(1))
from model_loader.cli import main
main()
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a catalogue with the model ``demo``, which is on a hub alone."""
    folder = tmp_path / "catalogue"
    shutil.copytree(catalogue.DIRECTORY, folder)
    files = [{"path": n, "size": len(d), "sha256": sha256(d).hexdigest()} for n, d in FILES.items()]
    entry = {
        "repository": "org/demo", "revision": "v7", "licence": "MIT", "architecture": "codegen",
        "format": "safetensors", "parameters": 1, "context_length": 1, "layers": 1, "kv_width": 1,
        "memory_gib": {"float32": 0.001}, "files": files,
    }  # fmt: skip
    template = yaml.safe_load((folder / "models.yaml").read_text())["models"]["codegen-350M-mono"]
    text = yaml.safe_dump({MODEL: template | entry}, sort_keys=False)
    with (folder / "models.yaml").open("a") as file:
        file.write("\n" + "".join(f"  {line}\n" for line in text.splitlines()))
    monkeypatch.setattr(catalogue, "DIRECTORY", folder)
    catalogue.models.cache_clear()
    yield folder
    catalogue.models.cache_clear()


@pytest.fixture
def store(tmp_path: Path, models: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for name, data in FILES.items():
        (source / name).write_bytes(data)
    lab = Lab(tmp_path / "store", None, FILES)  # type: ignore[arg-type]  -- no hub is needed
    lab.fetch(plan_of(FILES, "v7"), FolderSource(source))
    return lab.root


def package(store: Path, out: Path, *more: str) -> Result:
    arguments = ["models", "package", MODEL, "--part-size", "1MB", "--out", out, "--store", store, *more]
    return CliRunner().invoke(app, list(map(str, arguments)))


def _late(seen: Seen) -> bool:
    """Tell the requests for the middle of the third wheel's part from those for its directory (64 KiB)."""
    first, _, last = seen.headers.get("range", "bytes=0-0").removeprefix("bytes=").partition("-")
    return "part3-1.0.0" in seen.path and int(first) > 300_000 and int(last) - int(first) > 100_000


def loaded(models: Path, store: Path, index: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(store.parent), "PIP_CONFIG_FILE": "/dev/null"}
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "PIP_INDEX_URL": index}
    command = [sys.executable, "-c", LOADER, models, "fetch", MODEL, "--store", store, *more]
    return subprocess.run(
        list(map(str, command)), env=environment | hub, capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


@pytest.fixture
def index(store: Path, tmp_path: Path) -> Iterator[PackageIndex]:
    assert package(store, tmp_path / "wheels", "--write").exit_code == 0
    server = PackageIndex({path.name: path.read_bytes() for path in (tmp_path / "wheels").iterdir()})
    yield server
    server.close()


def test_the_same_model_gives_the_same_wheels_whose_records_are_right(store: Path, tmp_path: Path):
    for folder in ("one", "two"):
        assert package(store, tmp_path / folder).exit_code == 0
    wheels = sorted((tmp_path / "one").iterdir())
    assert [w.name for w in wheels] == [
        f"ai_assist_model_demo_part{n}-1.0.0-py3-none-any.whl" for n in (1, 2, 3, 4)
    ]
    for path in wheels:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert not [name for name in archive.namelist() if name.endswith(".py")]
            record = archive.read(next(n for n in archive.namelist() if n.endswith("RECORD"))).decode()
            assert {line.split(",")[0] for line in record.splitlines()} == set(archive.namelist())


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_pip_and_uv_accept_the_wheels(index: PackageIndex, tmp_path: Path, tool: str):
    binary = Path(sys.executable).with_name(tool)
    name = "ai-assist-model-demo-part2==1.0.0"
    target = tmp_path / "installed"
    options = ["--no-deps", "--no-cache-dir", "--target", target, "--index-url", index.url, name]
    command = [binary, "install", *options] if tool == "pip" else [binary, "pip", "install", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (target / "ai_assist_model_demo_part2/data/001.bin").stat().st_size == 1_000_000


def test_packaged_recorded_and_fetched_again_it_is_the_same_model(
    models: Path, index: PackageIndex, tmp_path: Path
):
    done = loaded(models, tmp_path / "new", index.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"unavailable", "source": "http://127.0.0.1:9/org/demo"' in done.stdout
    current = tmp_path / "new" / MODEL / "current"
    assert {name: (current / name).read_bytes() for name in FILES} == FILES
    before = len(index.hub.seen)
    again = loaded(models, tmp_path / "new", index.url)
    assert again.returncode == 0
    assert len(index.hub.seen) == before
    assert "unavailable" not in again.stdout


def test_a_killed_run_goes_on_from_the_byte(models: Path, index: PackageIndex, tmp_path: Path):
    store = tmp_path / "new"
    segments = ("--set", "segment-kib=256", "--set", "connections=1")
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null",
        "HF_ENDPOINT": "http://127.0.0.1:9", "PIP_INDEX_URL": index.url,
    }  # fmt: skip
    command = [sys.executable, "-c", LOADER, models, "fetch", MODEL, "--store", store, *segments]
    index.faults = lambda seen: Answer(stall_s=60) if _late(seen) else None
    with subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    ) as process:
        until(lambda: any(map(_late, index.hub.seen)))
        process.kill()
    index.faults = lambda _seen: None
    index.hub.sent = 0
    done = loaded(models, store, index.url, *segments)
    assert done.returncode == 0, done.stdout
    assert index.hub.sent < 1_000_000 + 8 * 70_000
    assert {name: (store / MODEL / "current" / name).read_bytes() for name in FILES} == FILES


def test_a_source_that_is_given_is_the_only_one(models: Path, index: PackageIndex, tmp_path: Path):
    done = loaded(models, tmp_path / "new", index.url, "--source", str(tmp_path))
    assert done.returncode == 1
    assert "folder:" in done.stdout
    assert index.hub.seen == []


def test_a_dry_run_writes_nothing_and_json_is_for_programs(store: Path, tmp_path: Path, models: Path):
    before = (models / "models.yaml").read_bytes()
    done = package(store, tmp_path / "out", "--dry-run", "--json", "--write")
    assert [row["bytes"] for row in json.loads(done.stdout)["wheels"]] == [1_000_000] * 3 + [
        len(FILES["config.json"])
    ]
    assert not (tmp_path / "out").exists()
    assert (models / "models.yaml").read_bytes() == before


def test_json_has_each_wheels_checksum_and_the_index(store: Path, tmp_path: Path):
    done = json.loads(package(store, tmp_path / "out", "--json").stdout)
    for row in done["wheels"]:
        assert sha256(Path(row["file"]).read_bytes()).hexdigest() == row["sha256"]
    assert len(done["index"]["model.safetensors"]) == 4


def test_what_is_recorded_keeps_the_hub_first_and_is_recorded_once(
    index: PackageIndex, store: Path, tmp_path: Path, models: Path
):
    text = (models / "models.yaml").read_bytes()
    assert package(store, tmp_path / "wheels", "--write").exit_code == 0
    assert (models / "models.yaml").read_bytes() == text
    catalogue.models.cache_clear()
    first, second = catalogue.models()[MODEL].places
    assert (first.hub, second.index is not None) == ("org/demo", True)


@pytest.mark.parametrize(
    ("more", "remedy"),
    [
        (("--part-size", "many"), "90MB"),
        (("--part-size", "10"), "999 wheels"),
        (("--name", "-x"), "--name"),
        (("--version", "v1"), "1.0.0"),
    ],
)
def test_wrong_options_are_refused_with_the_remedy(store: Path, tmp_path: Path, more, remedy):
    done = package(store, tmp_path / "out", *more)
    assert done.exit_code == 1
    assert remedy in done.output
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_stored_or_damaged_is_not_packaged(store: Path, tmp_path: Path):
    file = store / MODEL / "current" / "config.json"
    file.chmod(0o644)
    file.write_bytes(b"{}")
    assert "damaged" in package(store, tmp_path / "out").output
    assert "fetch it first" in package(tmp_path / "none", tmp_path / "out").output
    assert not (tmp_path / "out").exists()
