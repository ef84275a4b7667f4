"""Fault matrix rows L21 and L29 (README.md), the allow-list of formats, and imports for sites without a network."""

import gzip
import io
import shutil
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_loader import commands, path_rules
from model_loader.errors import LoaderError, PlanError, SourceError
from model_loader.plan import Plan, WantedFile
from model_loader.sources import archive
from model_loader.sources.protocols import FolderSource
from testing import needs
from testing.doubles.hub import Answer
from tests.model_loader.lab import MODEL, Lab, plan_of

BAD_NAMES = [
    "../x.json", "a/../../x.json", "/etc/x.json", "a\\b.json", "a\0.json", "a\n.json", "C:/x.json", "//host/x.json",
    "", ".", "a//b.json", "x" * 300 + ".json", "é" * 200 + ".json", "manifest.json", "a\u202eb.json", "a/./b.json",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_L21_a_dangerous_name_is_refused_before_any_byte(lab: Lab, name: str) -> None:
    with pytest.raises(PlanError):
        lab.fetch(Plan(MODEL, "v2", (WantedFile(name, 1, "0" * 64),)))
    assert lab.hub.seen == []
    lab.verdict("v1", staging=False)


@pytest.mark.parametrize(
    "pair", [("A.json", "a.json"), ("é.json", "e\u0301.json"), ("a.json", "a.json/b.json")]
)
def test_L21_two_names_that_may_be_one_are_refused(lab: Lab, pair: tuple[str, str]) -> None:
    with pytest.raises(PlanError):
        lab.fetch(Plan(MODEL, "v2", tuple(WantedFile(n, 1, "0" * 64) for n in pair)))
    lab.verdict("v1", staging=False)


@pytest.mark.parametrize("model", ["../x", "current", "a b", "", ".staging", "current.x-y"])
def test_L21_a_dangerous_model_id_or_revision_is_refused(lab: Lab, model: str) -> None:
    for plan in (Plan(model, "v2", lab.plan().files), Plan(MODEL, model, lab.plan().files)):
        with pytest.raises(PlanError):
            lab.fetch(plan)
    lab.verdict("v1", staging=False)


@given(st.text(max_size=40))
def test_L21_no_accepted_name_leaves_its_folder(name: str) -> None:
    try:
        path_rules.check_name(name)
    except PlanError:
        return
    base = Path("/store/demo/v2")
    assert base in Path(f"{base}/{name}").parents
    assert ".." not in Path(name).parts


@pytest.mark.parametrize(
    "name", ["w.bin", "w.pt", "run.py", "w.pkl", "w.ckpt", "w.safetensors.exe", "lib.so"]
)
def test_formats_that_run_code_are_refused_unless_pinned_and_allowed(lab: Lab, name: str) -> None:
    lab.hub.files = lab.files = {name: b"data" * 10}
    with pytest.raises(PlanError, match="allow-list"):
        lab.fetch()
    suffix = frozenset({Path(name).suffix})
    with pytest.raises(PlanError, match="sha256"):
        lab.fetch(lab.plan(pinned=False), allow_unpinned=True, extra_formats=suffix)
    lab.verdict("v1", staging=False)
    lab.fetch(extra_formats=suffix)
    lab.verdict("v2", staging=False)


def test_an_unpinned_file_needs_the_explicit_flag(lab: Lab) -> None:
    with pytest.raises(PlanError, match="assist models pin"):
        lab.fetch(lab.plan(pinned=False))
    assert lab.hub.seen == []
    lab.verdict("v1", staging=False)


def _tar(path: Path, *members: tuple[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def _special(kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo("x")
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../../etc/x.json", b"{}"),
        ("/etc/x.json", b"{}"),
        ("a.json", _special(tarfile.SYMTYPE, "/etc/passwd")),
        ("a.json", _special(tarfile.LNKTYPE, "config.json")),
        ("a.json", _special(tarfile.CHRTYPE)),
        ("a.json", _special(tarfile.FIFOTYPE)),
        ("CONFIG.json", b"{}"),
        ("config.json", b"{}"),
        ("x" * 300 + ".json", b"{}"),
    ],
)
def test_L21_a_dangerous_archive_member_is_refused_before_any_byte(lab: Lab, tmp_path: Path, member) -> None:
    path = _tar(tmp_path / "b.tar", ("config.json", lab.files["config.json"]), member)
    with pytest.raises(LoaderError):
        archive.open_import(path)
    lab.verdict("v1", staging=False)


def test_L21_a_compressed_archive_is_refused_so_that_no_bomb_unpacks(tmp_path: Path, lab: Lab) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    bomb.write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(SourceError, match="Decompress"):
        archive.open_import(bomb)
    lab.verdict("v1", staging=False)


def test_L21_a_truncated_archive_is_refused(tmp_path: Path, lab: Lab) -> None:
    path = _tar(tmp_path / "b.tar", *lab.files.items())
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(SourceError):
        archive.open_import(path)
    lab.verdict("v1", staging=False)


@pytest.mark.parametrize("top", ["", "./", "demo/"])
def test_a_tar_file_is_imported_in_place(lab: Lab, tmp_path: Path, top: str) -> None:
    path = _tar(tmp_path / "b.tar", *((top + name, data) for name, data in lab.files.items()))
    lab.fetch(source=archive.open_import(path))
    lab.verdict("v2", staging=False)


def test_a_folder_with_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("/etc/passwd")
    with pytest.raises(PlanError, match="link"):
        archive.open_import(tmp_path)


def test_checksums_inside_an_import_are_trusted_only_with_the_flag(lab: Lab, tmp_path: Path) -> None:
    path = _tar(tmp_path / "b.tar", *lab.files.items())
    source = archive.open_import(path)
    with pytest.raises(PlanError, match="no trusted checksums"):
        commands.plan_for_import(MODEL, None, None, path, source, trust=False)
    plan = commands.plan_for_import(MODEL, "v2", None, path, source, trust=True)
    lab.fetch(plan, source, allow_unpinned=True)
    lab.verdict("v2", staging=False)


def test_L29_an_empty_plan_is_refused(lab: Lab) -> None:
    with pytest.raises(PlanError, match="empty"):
        lab.fetch(Plan(MODEL, "v2", ()))
    lab.verdict("v1", staging=False)


@pytest.mark.parametrize("pinned", [True, False])
def test_L29_an_empty_file_is_a_file(lab: Lab, pinned: bool) -> None:
    lab.hub.files = lab.files = {**lab.files, "empty.txt": b""}
    lab.fetch(lab.plan(pinned=pinned), allow_unpinned=not pinned)
    assert (lab.root / MODEL / "current" / "empty.txt").stat().st_size == 0
    lab.verdict("v2", staging=False)


def test_L29_a_missing_file_fails_and_publishes_nothing(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(status=404) if s.path.endswith("config.json") else None
    with pytest.raises(SourceError, match=r"config\.json"):
        lab.fetch()
    lab.verdict("v1")


@pytest.mark.long
def test_L29_a_sparse_file_over_4_gib_keeps_every_offset(lab: Lab, tmp_path: Path) -> None:
    size = 4 * 1024**3 + 4096
    folder = tmp_path / "big"
    folder.mkdir()
    with (folder / "w.safetensors").open("wb") as file:
        file.write((2).to_bytes(8, "little") + b"{}")
        file.truncate(size)
    if shutil.disk_usage(tmp_path).free < 2 * size:
        needs.skip(f"8 GiB of disk must be free at {tmp_path}", "TMPDIR=/a/larger/disk make test-long")
    files = (WantedFile("w.safetensors", size, None),)
    lab.fetch(Plan(MODEL, "v2", files), FolderSource(folder), allow_unpinned=True, deadline_s=200)
    assert (lab.root / MODEL / "current" / "w.safetensors").stat().st_size == size


@pytest.mark.parametrize("count", [1500])
def test_L29_a_repository_of_many_files_arrives_as_exactly_the_manifests_set(
    lab: Lab, tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    files = {f"d{i % 40}/f{i}.txt": b"%d" % i for i in range(count)}
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    plan = plan_of(files, "v2")
    published = lab.fetch(plan, FolderSource(folder), deadline_s=120)
    present = {str(p.relative_to(published)) for p in published.rglob("*") if p.is_file()}
    assert present == set(files) | {"manifest.json"}
    lab.verdict("v2", staging=False)
