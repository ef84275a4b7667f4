"""Files, folders and a host's needs as Ansible's modules judge them, without a host."""

import base64
import os
import stat
from pathlib import Path

import pytest

from testing import needs
from tests.ansible.plugins import plugin

files = plugin("module_utils/managed_files")
needs_of = plugin("module_utils/host_requirements")

SEEN = {
    "os": "debian", "version": "12", "arch": "x86_64", "kernel": "6.1.0-30-amd64", "systemd": True,
    "container": False, "memory_gib": 16.0, "disk_gib": {"/opt": 40.0}, "gpus": 1, "driver": "535.261.03",
    "listening": {"22": "sshd (ssh.service)", "443": "nginx (ai-assist-nginx.service)"},
}  # fmt: skip
NEEDS = {
    "disk_gib": {"/opt": 4.0}, "memory_gib": 1.0, "kernel": "5.10", "gpus": 1, "driver": "525.60.13",
    "ports": {"443": "NGINX", "5000": "gateway"},
}  # fmt: skip


def entry(path: Path, **told: object) -> dict:
    return files.entry(**{"path": str(path)} | told)


def made(*entries: dict, write: bool = True, code: int = 0):
    found = files.Files(write, lambda _: (code, "", "it is wrong"))
    for one in entries:
        found.ensure(one)
    return found


def test_a_host_that_has_what_is_needed_is_fit():
    assert needs_of.problems(SEEN, NEEDS) == []


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"version": "11"}, "install one of: debian 12 or 13"),
        ({"os": "rhel", "version": "9"}, "install one of"),
        ({"arch": "riscv64"}, "use x86_64"),
        ({"systemd": False}, "use a real host"),
        ({"kernel": "5.4.0-150"}, "upgrade the kernel and reboot"),
        ({"memory_gib": 0.5}, "hosts.requirements.memory_gib"),
        ({"disk_gib": {"/opt": 1.0}}, "hosts.folders"),
        ({"gpus": 0, "driver": ""}, "set accelerator.kind: cpu"),
        ({"driver": "470.256.02"}, "525.60.13 or later"),
        (
            {"listening": {"5000": "python (other.service)"}},
            "port 5000 (gateway) is in use by python (other.service)",
        ),
    ],
)
def test_a_host_that_is_not_is_told_what_to_do(seen, said):
    (problem,) = needs_of.problems(SEEN | seen, NEEDS)
    assert said in problem


def test_every_problem_is_named_at_once():
    assert len(needs_of.problems(SEEN | {"memory_gib": 0.1, "kernel": "4.19", "version": "10"}, NEEDS)) == 3


@pytest.mark.skipif(
    os.geteuid() != 0, reason=needs.reason("root alone can give files to root", needs.AS_ROOT)
)
class TestFiles:
    def test_a_second_time_changes_nothing(self, tmp_path):
        wanted = [entry(tmp_path / "d", state="directory"), entry(tmp_path / "d/f", content="x", mode="0640")]
        assert len(made(*wanted).changes) == 2
        assert made(*wanted).changes == []
        assert stat.S_IMODE((tmp_path / "d/f").stat().st_mode) == 0o640

    def test_a_check_predicts_for_folders_and_users_that_are_not_there_and_writes_nothing(self, tmp_path):
        folder = entry(tmp_path / "d", state="directory", owner="nobody-yet")
        found = made(folder, entry(tmp_path / "d/f", content="x", owner="nobody-yet"), write=False)
        assert len(found.changes) == 2
        assert list(tmp_path.iterdir()) == []

    def test_a_user_that_is_missing_is_named_and_nothing_is_left(self, tmp_path):
        with pytest.raises(files.FileError, match="the user or group 'nobody-yet' does not exist"):
            made(entry(tmp_path / "f", content="x", owner="nobody-yet"))
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_would_not_work_leaves_the_old_one(self, tmp_path):
        made(entry(tmp_path / "f", content="good"))
        with pytest.raises(files.FileError, match="it is wrong"):
            made(entry(tmp_path / "f", content="bad", validate=["check", "%s"]), code=1)
        assert [path.read_text() for path in tmp_path.iterdir()] == ["good"]

    def test_bytes_are_written_as_they_are_and_once(self, tmp_path):
        data = bytes(range(256))
        item = entry(tmp_path / "f", base64=base64.b64encode(data).decode())
        assert made(item).changes == [str(tmp_path / "f")]
        assert (tmp_path / "f").read_bytes() == data
        assert made(item).changes == []

    def test_a_secret_shows_in_no_diff(self, tmp_path):
        found = made(entry(tmp_path / "f", secret="hunter2"), entry(tmp_path / "g", content="plain"))
        assert "hunter2" not in str(found.diff)
        assert "plain" in str(found.diff)
        assert (tmp_path / "f").read_text() == "hunter2"

    def test_only_folders_that_were_not_there_are_remembered_as_made(self, tmp_path):
        (tmp_path / "old").mkdir(mode=0o700)
        found = made(
            entry(tmp_path / "old", state="directory"), entry(tmp_path / "new/inner", state="directory")
        )
        assert found.created_folders == [str(tmp_path / "new")]

    def test_a_folder_that_somebody_uses_is_not_unused(self, tmp_path):
        (tmp_path / "used").mkdir()
        (tmp_path / "used/f").touch()
        (tmp_path / "empty").mkdir()
        assert made(
            entry(tmp_path / "used", state="absent_if_empty"),
            entry(tmp_path / "empty", state="absent_if_empty"),
        ).changes == [str(tmp_path / "empty")]
