"""A file is replaced completely or not at all."""

import stat

import pytest

from assist.atomic_write import replacing, write_text


def test_a_file_is_replaced_with_its_new_mode(tmp_path):
    file = tmp_path / "env"
    file.write_text("old")
    write_text(file, "new", 0o640)
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_until_the_end_the_old_content_stays_and_only_the_owner_reads_the_new(tmp_path):
    file = tmp_path / "env"
    file.write_text("old")
    with replacing(file, 0o644) as stream:
        stream.write(b"secret")
        (new,) = tmp_path.glob(".env.*")
        assert stat.S_IMODE(new.stat().st_mode) == 0o600
        assert file.read_text() == "old"


def test_a_failure_leaves_the_old_content_and_no_other_file(tmp_path):
    file = tmp_path / "env"
    file.write_text("old")

    def interrupted() -> None:
        with replacing(file, 0o644) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["env"]
    assert file.read_text() == "old"
