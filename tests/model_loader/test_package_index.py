"""Fault matrix row L31 (README.md): a package index as a source."""

import base64
import struct
import zlib
from collections.abc import Callable, Iterator

import pytest

from model_loader.download.segment import Limits
from model_loader.errors import IntegrityError, LoaderError, SourceError, TransientError
from stackfile.model_sources import WheelPart
from testing.doubles.hub import Answer, Hub, Seen
from testing.doubles.package_index import PackageIndex, wheel
from tests.model_loader.index_lab import BIG, Parts, filename, member, parts_of, serve, split
from tests.model_loader.lab import SEGMENT, Lab

Start = Callable[..., tuple[Parts, PackageIndex]]


@pytest.fixture
def start(lab: Lab) -> Iterator[Start]:
    running: list[PackageIndex] = []

    def begin(parts: Parts | None = None, *, deflated: bool = False, **options) -> tuple[Parts, PackageIndex]:
        parts = parts or parts_of(lab.files, deflated=deflated)
        running.append(serve(parts, **options))
        return parts, running[-1]

    yield begin
    for index in running:
        index.close()


@pytest.mark.parametrize("as_json", [False, True], ids=["html", "json"])
@pytest.mark.parametrize("deflated", [False, True], ids=["stored", "deflated"])
@pytest.mark.parametrize("checksums", [False, True], ids=["bare", "checksums"])
def test_L31_a_model_in_wheels_is_published_byte_for_byte(
    lab: Lab, start: Start, as_json, deflated, checksums
):
    parts, index = start(as_json=as_json, deflated=deflated, checksums=checksums)
    folder = lab.fetch(source=parts.source(index.url))
    assert {name: (folder / name).read_bytes() for name in lab.files} == lab.files
    lab.verdict("v2", staging=False)


def test_L31_of_a_wheel_only_its_directory_and_the_member_are_transferred(lab: Lab, start: Start):
    parts, index = start(parts_of(lab.files, extra={"demo/other": b"\0" * 5_000_000}))
    lab.fetch(source=parts.source(index.url))
    assert index.hub.sent < sum(map(len, lab.files.values())) + 8 * 70_000


def test_L31_a_second_run_contacts_nothing(lab: Lab, start: Start):
    parts, index = start()
    lab.fetch(source=parts.source(index.url))
    before = len(index.hub.seen)
    lab.fetch(source=parts.source(index.url))
    assert len(index.hub.seen) == before


def length(seen: Seen) -> int:
    """Return the bytes that a request asks for; those for a wheel's directory are at most 64 KiB."""
    first, last = seen.headers["range"].removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1


@pytest.mark.parametrize("deflated", [False, True], ids=["stored", "deflated"])
def test_L31_an_index_that_goes_down_at_half_is_resumed_from_the_byte(lab: Lab, start: Start, deflated: bool):
    parts, index = start(deflated=deflated)
    last = f"/files/{filename(3)}"
    down: list[Seen] = []

    def goes_down(seen: Seen) -> Answer | None:
        if down:
            return Answer(status=503)
        if seen.path == last and length(seen) > 100_000:
            down.append(seen)
            return Answer(cut_at=0.5, reset=True)
        return None

    index.faults = goes_down
    with pytest.raises(TransientError):
        lab.fetch(source=parts.source(index.url), tries=2, limits=Limits(1, SEGMENT, 1000.0, 1.0))
    lab.verdict("v1", staging=True)
    index.faults = lambda _seen: None
    index.hub.sent = 0
    lab.fetch(source=parts.source(index.url), limits=Limits(1, SEGMENT, 1000.0, 1.0))
    assert index.hub.sent < len(lab.files[BIG]) // 3 + 8 * 70_000
    lab.verdict("v2", staging=False)


def test_L31_an_index_without_ranges_serves_too(lab: Lab, start: Start):
    parts, index = start()
    index.faults = lambda s: Answer(ignore_range=True) if s.path.startswith("/files/") else None
    lab.fetch(source=parts.source(index.url))
    lab.verdict("v2", staging=False)


def changed(parts: Parts, number: int, data: bytes) -> Parts:
    return Parts({**parts.wheels, filename(number): data}, parts.parts, parts.files)


def flipped(lab: Lab) -> Parts:
    piece = bytearray(split(lab.files[BIG])[1])
    piece[1000] ^= 1
    return changed(parts_of(lab.files), 2, wheel({member(2): bytes(piece)}))


def without(lab: Lab) -> Parts:
    parts = parts_of(lab.files)
    del parts.wheels[filename(2)]
    return parts


def truncated(lab: Lab) -> Parts:
    parts = parts_of(lab.files)
    return changed(parts, 2, parts.wheels[filename(2)][:-300])


def short(lab: Lab) -> Parts:
    return changed(parts_of(lab.files), 2, wheel({member(2): split(lab.files[BIG])[1][:-5]}))


def without_member(lab: Lab) -> Parts:
    return changed(parts_of(lab.files), 2, wheel({"other": split(lab.files[BIG])[1]}))


def bomb(lab: Lab) -> Parts:
    """Return a wheel whose member is 64 MiB but whose headers announce the part's own size."""
    size = len(split(lab.files[BIG])[1])
    data = bytearray(wheel({member(2): b"\0" * (1 << 26)}, deflated=True))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.rindex(signature) + offset, size)
    return changed(parts_of(lab.files), 2, bytes(data))


def damaged(lab: Lab) -> Parts:
    parts = parts_of(lab.files, deflated=True)
    data = bytearray(parts.wheels[filename(2)])
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    return changed(parts, 2, bytes(data))


def garbage(lab: Lab) -> Parts:
    return changed(parts_of(lab.files), 2, zlib.compress(b"no zip at all" * 1000))


@pytest.mark.parametrize("fault", [truncated, short, without_member, bomb, damaged, garbage, flipped])
@pytest.mark.parametrize("checksums", [False, True], ids=["bare", "checksums"])
def test_L31_a_wheel_that_is_not_the_pinned_one_is_refused(lab: Lab, start: Start, fault, checksums: bool):
    parts, index = start(fault(lab), checksums=checksums)
    with pytest.raises((SourceError, IntegrityError)) as caught:
        lab.fetch(source=parts.source(index.url), tries=2)
    said = str(caught.value)
    assert "package index" in said or filename(2) in said or index.url.rstrip("/") in said
    if checksums:
        assert "expected" in said
        assert all(part.stat().st_size < 1000 for part in lab.parts())
    lab.verdict("v1")


def test_L31_a_missing_wheel_is_found_before_the_first_byte(lab: Lab, start: Start):
    parts, index = start(without(lab))
    with pytest.raises(SourceError, match=r"no wheel of Demo\.part2==1\.0"):
        lab.fetch(source=parts.source(index.url))
    assert index.hub.sent < 8 * 70_000
    lab.verdict("v1")


def test_L31_another_version_is_not_taken(lab: Lab, start: Start):
    parts, index = start()
    parts.parts[BIG] = (WheelPart(index="demo-part1==2.0", path="x", sha256="0" * 64),)
    with pytest.raises(SourceError, match=r"no wheel of demo-part1==2\.0"):
        lab.fetch(source=parts.source(index.url))


def test_L31_other_members_names_have_no_effect(lab: Lab, start: Start, tmp_path):
    evil = {"../../evil": b"x", "/tmp/evil-abs": b"y", "demo/link": b"/etc/passwd"}
    parts, index = start(parts_of(lab.files, extra=evil))
    lab.fetch(source=parts.source(index.url))
    assert not list(tmp_path.rglob("evil*"))
    lab.verdict("v2", staging=False)


def test_L31_a_directory_without_end_is_refused(lab: Lab, start: Start, monkeypatch):
    monkeypatch.setattr("model_loader.sources.wheel.MAX_DIRECTORY", 200_000)
    many = {f"demo/{'n' * 200}{i}": b"" for i in range(1000)}
    parts, index = start(parts_of(lab.files, extra=many))
    with pytest.raises(SourceError, match="directory exceeds"):
        lab.fetch(source=parts.source(index.url))


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://example.com", "file:///etc"])
def test_L31_a_page_that_leads_elsewhere_is_refused(lab: Lab, start: Start, target: str, monkeypatch):
    monkeypatch.setattr("model_loader.sources.transport._is_loopback", lambda host: host == "127.0.0.1")
    parts, index = start()
    index.base = target
    with pytest.raises(LoaderError) as caught:
        lab.fetch(source=parts.source(index.url), tries=1)
    if target != "http://example.com":
        assert "refused" in str(caught.value)
    lab.verdict("v1")


def test_L31_credentials_go_to_the_index_and_not_to_the_host_of_its_files(lab: Lab, start: Start):
    parts, index = start()
    other = Hub(dict(parts.wheels))
    lab.others.append(other)
    index.base = other.url
    lab.fetch(source=parts.source(index.url.replace("://", "://user:s3cret%21@")))
    expected = "Basic " + base64.b64encode(b"user:s3cret!").decode()
    assert {seen.headers.get("authorization") for seen in index.hub.seen} == {expected}
    assert not any("authorization" in seen.headers for seen in other.seen)
    assert "s3cret" not in lab.heard.said()
    lab.verdict("v2", staging=False)


def test_L31_an_index_that_denies_access_says_where_credentials_go(lab: Lab, start: Start):
    parts, index = start()
    index.faults = lambda _seen: Answer(status=401)
    with pytest.raises(SourceError, match=r"PIP_INDEX_URL.*netrc"):
        lab.fetch(source=parts.source(index.url))


def test_L31_the_second_index_has_what_the_first_lacks(lab: Lab, start: Start):
    parts, index = start()
    _, empty = start(Parts({}, parts.parts, parts.files))
    lab.fetch(source=parts.source(empty.url, index.url))
    lab.verdict("v2", staging=False)


def test_L31_a_page_that_is_none_is_named(lab: Lab, start: Start):
    parts, index = start(as_json=True)
    index.faults = lambda s: (
        Answer(body=b"{}", headers={"Content-Type": "application/json"}) if "/simple/" in s.path else None
    )
    index.hub.files |= {f"simple/demo-part{number}/": b"" for number in (1, 2, 3)}
    with pytest.raises(SourceError, match="no page of a package index"):
        lab.fetch(source=parts.source(index.url))
