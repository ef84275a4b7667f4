"""What the lab writes and reads, without a host: descriptions of hosts, inventories, locks, apt's sources."""

import configparser
import json
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from testing.lab import inventory, settings
from testing.lab.processes import LabError, ProcessId, locked
from testing.lab.record import Host, LabFolder, Record
from testing.lab.settings import LabSettings
from testing.until import until


@pytest.fixture
def lab(tmp_path: Path) -> LabFolder:
    return LabFolder("x", LabSettings(cache=tmp_path / "cache", state=tmp_path))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    found = Record("cache", "bookworm", tmp_path / "image")
    for text in ("gw1:groups=gateway,queue", "gpu1:groups=gpu:gpus=2:gpu_name=Tesla T4:gpu_mem=15360"):
        found.add(Host.parse(text))
    return found


def test_hosts_get_addresses_in_turn_and_the_gpus_that_are_asked_for(record):
    assert [host.ip for host in record.hosts.values()] == ["10.77.0.11", "10.77.0.12"]
    gpu = record.hosts["gpu1"]
    assert (gpu.gpus, gpu.gpu_name, gpu.gpu_mem) == (2, "Tesla T4", 15360)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a/b", "1 to 12 letters and digits"),
        ("thirteenchars", "1 to 12 letters and digits"),
        ("h:nope=1", "the options are"),
        ("h:gpus=two", "'gpus=two' is not understood"),
    ],
)
def test_a_host_that_can_not_be_is_refused_with_what_can(text, said):
    with pytest.raises(LabError, match=said):
        Host.parse(text)


@pytest.mark.parametrize("name", ["../x", "", "ninechars", "a-b"])
def test_a_lab_that_can_not_be_named_so_is_refused(name, tmp_path):
    with pytest.raises(LabError, match="1 to 8 letters and digits"):
        LabFolder(name, LabSettings(state=tmp_path))


def test_a_lab_is_read_as_it_was_written(lab, record):
    record.hosts["gw1"].process = ProcessId(4, "5")
    lab.save(record)
    assert lab.load() == record


def test_a_lab_that_was_never_made_is_named_with_how_to_make_it(lab):
    assert lab.find() is None
    with pytest.raises(LabError, match=r"python -m testing\.lab up"):
        lab.load()


def test_the_inventory_says_the_same_in_every_format(lab, record):
    read = yaml.safe_load(inventory.text(lab, record, "yaml"))["all"]
    assert {group: set(of["hosts"]) for group, of in read["children"].items()} == {
        "gateway": {"gw1"},
        "queue": {"gw1"},
        "gpu": {"gpu1"},
    }
    dynamic = json.loads(inventory.text(lab, record, "json"))
    assert dynamic["_meta"]["hostvars"] == read["hosts"]
    assert dynamic["gpu"] == {"hosts": ["gpu1"]}
    ini = configparser.ConfigParser(allow_no_value=True, interpolation=None)
    ini.read_string("[ungrouped]\n" + inventory.text(lab, record, "ini"))
    assert ini.sections() == ["ungrouped", "gateway", "queue", "gpu", "all:vars"]
    assert dict(ini["all:vars"]) == read["vars"]


def test_a_lock_holds_although_its_holder_removes_the_file(tmp_path):
    file, inside = tmp_path / "state/x.lock", []
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(file):
            inside.append("first")
            entered.set()
            assert leave.wait(60)
            file.unlink()
            with suppress(OSError):  # as destroy() does: whoever came next has a file in it
                file.parent.rmdir()

    def follow(name: str) -> None:
        with locked(file):
            inside.append(name)
            assert file.exists(), "whoever comes next would lock another file"

    first = threading.Thread(target=hold)
    others = [threading.Thread(target=follow, args=(name,)) for name in ("second", "third")]
    first.start()
    assert entered.wait(60)
    for thread in others:
        thread.start()
    until(lambda: all(thread.is_alive() for thread in others))
    assert inside == ["first"]
    leave.set()
    for thread in (first, *others):
        thread.join()
    assert sorted(inside) == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sources.list", "# deb http://no\ndeb [signed-by=/k.gpg] http://a/debian bookworm main\ndeb http://s/debian-security x main\n"),
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://a/debian/\nSuites: x\n\nTypes: deb\nURIs: http://s/debian-security\n"),
    ],
)  # fmt: skip
def test_the_archives_are_those_of_this_machines_apt(tmp_path, monkeypatch, file, text):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    monkeypatch.setattr(settings, "_APT", tmp_path)
    assert settings.archives.__wrapped__() == ("http://a/debian", "http://s/debian-security")


def test_a_machine_without_apt_sources_is_told_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "_APT", tmp_path)
    with pytest.raises(LabError, match="names no Debian archive"):
        settings.archives.__wrapped__()
