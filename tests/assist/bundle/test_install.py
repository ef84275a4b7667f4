"""Installing: what does not fit is refused, what fails leaves what was there, what was damaged is mended."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace

import pytest

from assist import preflight
from assist.bundle import archive, install
from assist.bundle.errors import BundleError
from assist.bundle.paths import BundlePaths, checksum
from assist.deployment import resolve
from assist.paths import SOURCE, Paths
from tests.assist.bundle.small import CONTENT


@pytest.fixture
def where(small):
    return BundlePaths(small.project, small.project / ".run")


def content(where: BundlePaths) -> dict[str, bytes]:
    return {path: (where.link / path).read_bytes() for path in CONTENT}


def test_everything_is_in_place_and_read_only(small, where):
    install.install(small.archive, small.key, where)
    assert content(where) == CONTENT
    assert {(where.link / path).stat().st_mode & 0o777 for path in CONTENT} == {0o444}
    assert where.covers(["control.txt"])


def test_installing_twice_writes_nothing_the_second_time(small, where, monkeypatch):
    install.install(small.archive, small.key, where)
    monkeypatch.setattr(install, "_unpack", lambda *_: pytest.fail("unpacked again"))
    install.install(small.archive, small.key, where)
    assert content(where) == CONTENT


def test_another_bundle_takes_the_place_of_the_first(small, where):
    install.install(small.archive, small.key, where)
    first = where.link.resolve()
    (small.folder / "content/wheels/uv-1.0-py3-none-any.whl").write_bytes(b"newer")
    small.build()
    install.install(small.archive, small.key, where)
    assert content(where)["wheels/uv-1.0-py3-none-any.whl"] == b"newer"
    assert not first.exists()


def test_a_bundle_that_was_damaged_in_place_is_mended(small, where):
    install.install(small.archive, small.key, where)
    damaged = where.link / "wheels/uv-1.0-py3-none-any.whl"
    damaged.unlink()
    damaged.write_bytes(b"x" * 7000)
    install.install(small.archive, small.key, where)
    assert content(where) == CONTENT


def test_a_disk_that_fills_up_leaves_the_bundle_that_was_there_and_nothing_else(small, where, monkeypatch):
    install.install(small.archive, small.key, where)
    before = sorted(where.home.rglob("*"))
    (small.folder / "content/wheels/uv-1.0-py3-none-any.whl").write_bytes(b"newer")
    small.build()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(BundleError, match="No space left"):
        install.install(small.archive, small.key, where)
    assert sorted(where.home.rglob("*")) == before
    assert content(where) == CONTENT


def test_an_archive_that_changes_between_the_two_readings_is_refused_without_a_trace(
    small, where, monkeypatch
):
    verify = archive.verify

    def swap(*arguments):
        verify(*arguments)
        whole = bytearray(small.archive.read_bytes())
        whole[whole.index(b"a wheel")] ^= 1
        small.archive.write_bytes(whole)

    monkeypatch.setattr(archive, "verify", swap)
    with pytest.raises(BundleError, match="altered"):
        install.install(small.archive, small.key, where)
    assert not where.link.exists()
    assert not list((where.home / install.FOLDER).iterdir())


def test_what_a_killed_run_has_left_is_swept_by_the_next(small, where):
    left = where.home / install.FOLDER / ".0123456789abcdef.99999"
    (left / "wheels").mkdir(parents=True)
    install.install(small.archive, small.key, where)
    assert not left.exists()


def test_a_bundle_that_does_not_fit_the_disk_is_refused_before_anything_is_written(small, where, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 99, 1))
    with pytest.raises(BundleError, match="Free some"):
        install.install(small.archive, small.key, where)
    assert not where.home.exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"python": "3.99"}, r"Python 3\.99.*python3\.99"),
        ({"machine": "riscv128"}, "riscv128"),
        ({"glibc": "9.99"}, r"glibc 9\.99.*Debian 12"),
        (
            {"sources": {"requirements/control.txt": "0" * 64}},
            "another version of this project: requirements/control",
        ),
        ({"sources": {"requirements/gone.txt": "0" * 64}}, "requirements/gone"),
    ],
)
def test_a_bundle_for_another_machine_or_clone_is_refused_with_the_remedy(small, where, changes, match):
    small.build(replace(small.manifest(), **changes))
    archive.verify(small.archive, small.key)
    with pytest.raises(BundleError, match=match):
        install.install(small.archive, small.key, where)
    assert not where.home.exists()


def test_a_bundle_counts_for_the_lock_files_it_was_built_from_alone(small, where):
    assert not where.covers(["control.txt"])
    install.install(small.archive, small.key, where)
    assert where.covers(["control.txt"])
    assert not where.covers(["control.txt", "dev.txt"])
    (small.project / "requirements/control.txt").write_text("uv==2.0\n")
    assert not where.covers(["control.txt"])


@pytest.mark.parametrize(("lock", "status"), [("gateway.txt", "ok"), ("control.txt", "problem")])
def test_the_preflight_takes_a_bundle_of_this_clone_and_no_other_and_asks_no_index(
    small, where, monkeypatch, lock, status
):
    (small.project / "requirements/gateway.txt").write_text("fastapi==1.0\n")
    path = f"requirements/{lock}"
    small.build(small.manifest(sources={path: checksum(small.project / path)}))
    install.install(small.archive, small.key, where)
    monkeypatch.setattr(preflight, "unreachable", lambda _: pytest.fail("asked the index"))
    stack = small.folder / "remote.yaml"
    stack.write_text(
        "name: remote\ntarget: local\nmodel: tiny-codegen\nengine: {kind: openai, url: 'http://127.0.0.1:1/v1'}\n"
    )
    deployment = resolve(str(stack), Paths(where.source, where.home))
    finding = next(each for each in preflight.run(deployment) if each.id == "network")
    assert finding.status == status
    assert status == "ok" or str(where.link) in finding.remedy


def test_it_installs_with_the_standard_library_alone():

    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['cryptography', 'typer', 'rich', 'yaml', 'pydantic', 'psutil', 'urllib3']))\n"
        "import assist.bundle.__main__\n"
    )
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n{program}"],
        check=True,
    )
