"""Fault matrix rows L15, L16, L18, L25, L26 (README.md): full, read-only and failing disks, power loss, damaged files."""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_loader import atomic_files
from model_loader.download.segment import Limits
from model_loader.errors import LoaderError, StoreError
from model_loader.store import liveness, verify
from model_loader.store import store as stores
from testing import needs
from testing.doubles.hub import Answer, Hub
from tests.model_loader.lab import MODEL, SEGMENT, Lab, publish_v1, version

BIG = "model.safetensors"
ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason=needs.reason("root alone can mount a tmpfs", needs.AS_ROOT)
)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        needs.skip("this machine does not let root mount a tmpfs", needs.PRIVILEGED)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.root
@ROOT
@pytest.mark.parametrize("room_kib", [64, 1600, 2900])
@pytest.mark.parametrize("checked", [True, False])
def test_L15_a_full_disk_fails_sweeps_and_keeps_the_old_version(
    tmp_path: Path, hub: Hub, room_kib: int, checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_kib = 2980
    with mounted(tmp_path / "disk", f"size={used_kib + room_kib}k") as disk:
        publish_v1(disk / "store", tmp_path / "v1")
        lab = Lab(disk / "store", hub, version(2))
        if not checked:  # the space runs out after the check, as on a disk that others use too
            monkeypatch.setattr("model_loader.fetch.check_space", lambda *_: None)
        with pytest.raises(StoreError, match=r"missing|no space") as caught:
            lab.fetch()
        assert caught.value.full
        lab.verdict("v1", staging=False)


@pytest.mark.root
@ROOT
def test_L15_inodes_that_run_out_are_a_full_disk(tmp_path: Path, hub: Hub) -> None:
    with mounted(tmp_path / "disk", "size=64m,nr_inodes=12") as disk:
        lab = Lab(disk / "store", hub, version(2))
        with pytest.raises(StoreError, match="inodes"):
            lab.fetch()
        assert not (disk / "store" / MODEL).exists()


@pytest.mark.parametrize("call", ["fsync", "rename", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_L15_L16_errors_at_fsync_and_rename_are_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def fail(*_args, **_keywords) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(LoaderError):
            lab.fetch()
    lab.verdict("v1")
    lab.fetch()
    lab.verdict("v2")


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EROFS])
def test_L16_a_write_error_is_clear_and_the_next_run_goes_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_args) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(StoreError, match=r"disk|permission|read-only"):
            lab.fetch()
    lab.verdict("v1")
    lab.fetch()
    lab.verdict("v2", staging=False)


@pytest.mark.root
@ROOT
def test_L16_a_read_only_store_is_named_and_untouched(tmp_path: Path, hub: Hub) -> None:
    with mounted(tmp_path / "disk", "size=64m") as disk:
        publish_v1(disk / "store", tmp_path / "v1")
        lab = Lab(disk / "store", hub, version(2))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError, match="read-only"):
            lab.fetch()
        lab.verdict("v1")


class PowerCut:
    """Copies the store before every durable step, as a disk would hold it that lost all unsynced file data."""

    def __init__(self, store: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.copies, self.synced, self.count = store, copies, set(), 0
        self.synced |= {p.stat().st_ino for p in store.rglob("*") if p.is_file()}
        fsync, rename, replace = os.fsync, os.rename, os.replace

        def after_sync(descriptor: int) -> None:
            self.snapshot()
            fsync(descriptor)
            self.synced.add(os.fstat(descriptor).st_ino)

        def around(real):
            def step(*args, **keywords):
                self.snapshot()
                real(*args, **keywords)
                self.snapshot()

            return step

        monkeypatch.setattr(os, "fsync", after_sync)
        monkeypatch.setattr(os, "rename", around(rename))
        monkeypatch.setattr(os, "replace", around(replace))

    def snapshot(self) -> None:
        copy = self.copies / f"{self.count:03d}"
        self.count += 1
        shutil.copytree(self.store, copy, symlinks=True)
        for path in self.store.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_ino not in self.synced:
                lost = copy / path.relative_to(self.store)
                mode = lost.stat().st_mode
                lost.chmod(mode | stat.S_IWUSR)
                lost.write_bytes(bytes(path.stat().st_size))
                lost.chmod(mode)


def test_L18_power_loss_at_any_durable_step_never_publishes_a_bad_file(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        cut = PowerCut(lab.root, tmp_path / "cuts", patch)
        lab.fetch(limits=Limits(1, SEGMENT, 1000, 1))
    copies = sorted((tmp_path / "cuts").iterdir())
    assert len(copies) == cut.count >= 8
    for copy in copies:
        current = copy / MODEL / "current"
        assert current.readlink().name in {"v1", "v2"}
        for folder in stores.Store(copy).revisions(MODEL):
            manifest = stores.read(folder)
            assert manifest is not None
            assert verify.check(folder, manifest) == [], f"{folder} after cut {copy.name}"
    for copy in copies[:: max(1, len(copies) // 5)]:
        monkeypatch.setattr(liveness, "_started", lambda _pid: "another-boot")
        after = Lab(copy, lab.hub, lab.files)
        after.fetch()
        after.verdict("v2")


@pytest.mark.parametrize("damage", ["flip", "delete", "truncate", "mode", "symlink", "extra"])
def test_L25_rot_at_rest_is_found_and_only_that_file_is_fetched_again(
    lab: Lab, tmp_path: Path, damage: str
) -> None:
    folder = lab.fetch()
    target = folder / BIG
    inode = (folder / "config.json").stat().st_ino
    target.chmod(0o644)
    if damage == "flip":
        data = bytearray(target.read_bytes())
        data[77_777] ^= 1
        target.write_bytes(data)
        target.chmod(0o444)
    elif damage == "truncate":
        os.truncate(target, 5)
    elif damage in {"delete", "symlink"}:
        target.unlink()
    if damage == "symlink":
        target.symlink_to("/etc/hostname")
    if damage == "extra":
        target.chmod(0o444)
        (folder / "stray.bin").write_bytes(b"?")
    faults = verify.check(folder, stores.read(folder))
    assert [f.kind for f in faults] == [
        {"flip": "sha256", "delete": "missing", "truncate": "size", "symlink": "foreign"}.get(damage, damage)
    ]
    lab.hub.seen.clear()
    lab.fetch(deep=True)
    assert lab.hub.gets("config.json") == []
    assert bool(lab.hub.gets(BIG)) == (damage not in {"mode", "extra"})
    assert (folder / "config.json").stat().st_ino == inode
    lab.verdict("v2", staging=False)


def test_L25_a_start_notices_a_truncated_file_without_being_asked(lab: Lab) -> None:
    folder = lab.fetch()
    (folder / BIG).chmod(0o644)
    os.truncate(folder / BIG, 100)
    lab.fetch()
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize("point", ["rename", "symlink"])
def test_L26_a_failed_update_keeps_the_old_version_served_and_the_next_one_succeeds(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    held = os.open(lab.root / MODEL / "current" / BIG, os.O_RDONLY)

    def fail(*_args, **_keywords) -> None:
        raise StoreError("stopped here")

    with monkeypatch.context() as patch:
        target = (stores.Store, "_rename_to") if point == "rename" else (atomic_files, "point")
        patch.setattr(*target, fail)
        with pytest.raises(StoreError):
            lab.fetch()
    lab.verdict("v1")
    requests = len(lab.hub.gets(BIG))
    lab.fetch()
    assert len(lab.hub.gets(BIG)) == requests, "every byte was already present"
    lab.verdict("v2", staging=False)
    assert os.pread(held, 8_000_000, 0) == version(1)[BIG]
    assert (lab.root / MODEL / "previous").readlink().name == "v1"
    os.close(held)


def test_L26_the_old_version_serves_through_every_byte_of_an_update(lab: Lab) -> None:
    served = set()

    def script(_seen) -> Answer | None:
        served.add((lab.root / MODEL / "current").readlink().name)
        return None

    lab.hub.script = script
    lab.fetch()
    assert served == {"v1"}
    lab.verdict("v2", staging=False)
