"""Fault matrix rows L01-L09 (README.md): cuts, ranges, changed files, bit flips, sizes, encodings, error pages."""

import gzip

import pytest

from model_loader.errors import IntegrityError, LoaderError, SourceError, TransientError
from model_loader.plan import Plan, WantedFile
from testing.doubles.hub import Answer
from tests.model_loader.lab import MODEL, SEGMENT, Lab, weights

BIG = "model.safetensors"


def _first(name: str, answer: Answer):
    return lambda seen: answer if seen.path.endswith(name) and seen.number == 0 else None


def _always(name: str, answer: Answer):
    return lambda seen: answer if seen.path.endswith(name) else None


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.9999])
def test_L01_a_cut_body_resumes_from_the_byte_reached(lab: Lab, fraction: float) -> None:
    lab.hub.script = _first(BIG, Answer(cut_at=fraction))
    lab.fetch()
    assert lab.hub.sent <= sum(map(len, lab.files.values())) + SEGMENT
    lab.verdict("v2", staging=False)


def test_L02_a_body_cut_every_time_fails_and_leaves_current_alone(lab: Lab) -> None:
    lab.hub.script = _always(BIG, Answer(cut_at=0.0))
    with pytest.raises(TransientError):
        lab.fetch()
    lab.verdict("v1")


def test_L03_a_server_that_ignores_ranges_is_read_whole_and_never_appended(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(ignore_range=True, cut_at=0.5 if s.number == 1 else None)
    lab.fetch()
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize("said", ["bytes 7-99/3000000", "bytes 0-9/77", "nonsense"])
def test_L03_a_wrong_content_range_is_never_written(lab: Lab, said: str) -> None:
    lab.hub.script = lambda s: Answer(headers={"Content-Range": said}) if "range" in s.headers else None
    try:
        lab.fetch()
    except LoaderError:
        lab.verdict("v1")
    else:
        lab.verdict("v2")


def test_L03_a_416_on_resume_starts_over(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(status=416) if s.start else None
    lab.fetch()
    lab.verdict("v2", staging=False)


def test_L04_a_file_that_changes_between_attempts_loses_its_prefix(lab: Lab) -> None:
    old = weights(9)

    def script(seen):
        if seen.path.endswith(BIG) and seen.number == 0:
            lab.hub.etag = lambda _p: '"old"'
            return Answer(body=old, cut_at=0.5)
        lab.hub.etag = lambda _p: '"new"'
        return None

    lab.hub.script = script
    lab.fetch()
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize("place", [0, 1_500_000, -1])
def test_L05_a_bit_flip_is_refused_and_refetched_once(lab: Lab, place: int) -> None:
    good = lab.files[BIG]
    bad = bytearray(good)
    bad[place] ^= 1

    def script(seen):
        return Answer(body=bytes(bad)) if seen.path.endswith(BIG) and not lab.heard_refusal() else None

    lab.hub.script = script
    lab.fetch()
    assert lab.heard_refusal() == 1
    lab.verdict("v2", staging=False)


def test_L05_a_bit_flip_that_persists_fails_after_one_refetch(lab: Lab) -> None:
    bad = bytearray(lab.files[BIG])
    bad[1_000_000] ^= 4
    lab.hub.script = _always(BIG, Answer(body=bytes(bad)))
    with pytest.raises(IntegrityError, match="sha256"):
        lab.fetch()
    assert lab.heard_refusal() == 2
    lab.verdict("v1")


@pytest.mark.parametrize("off", [-1, 1])
def test_L06_the_right_hash_with_a_wrong_size_is_refused_and_the_reverse(lab: Lab, off: int) -> None:
    right = lab.plan().files
    wrong_size = tuple(WantedFile(f.path, f.size + off, f.sha256) for f in right)
    wrong_hash = tuple(WantedFile(f.path, f.size, "0" * 64) for f in right)
    for files in (wrong_size, wrong_hash):
        with pytest.raises(LoaderError):
            lab.fetch(Plan(MODEL, "v2", files))
    lab.verdict("v1")


def test_L07_a_short_body_with_an_honest_length_is_refused(lab: Lab) -> None:
    lab.hub.script = _always(BIG, Answer(body=lab.files[BIG][:-1]))
    with pytest.raises(IntegrityError):
        lab.fetch()
    lab.verdict("v1")


def test_L07_extra_bytes_are_refused(lab: Lab) -> None:
    lab.hub.script = _always(BIG, Answer(body=lab.files[BIG] + b"x", ignore_range=True, chunked=True))
    with pytest.raises(IntegrityError, match="more bytes"):
        lab.fetch()
    lab.verdict("v1")


def test_L08_a_chunked_body_without_length_is_taken_when_the_size_is_pinned(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(ignore_range=True, chunked=True, cut_at=0.5 if s.number == 1 else None)
    lab.fetch()
    lab.verdict("v2", staging=False)


def test_L08_a_compressed_body_is_refused_though_identity_was_asked(lab: Lab) -> None:
    body = gzip.compress(lab.files[BIG])
    lab.hub.script = _always(BIG, Answer(body=body, ignore_range=True, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(SourceError, match="gzip"):
        lab.fetch()
    assert all(s.headers["accept-encoding"] == "identity" for s in lab.hub.seen)
    lab.verdict("v1")


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>" + b" " * 600, "web page"),
        (b'{"error":"Repository is gated"}', "JSON error"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3000000\n", "LFS pointer"),
    ],
)
def test_L09_an_error_page_with_status_200_is_refused_by_content(lab: Lab, page: bytes, why: str) -> None:
    lab.hub.script = _always(BIG, Answer(body=page, headers={"Content-Length": str(len(page))}))
    unsized = tuple(WantedFile(f.path, None, None) for f in lab.plan().files)
    plan = Plan(MODEL, "v2", unsized)
    source = lab.plain_source()
    with pytest.raises(IntegrityError, match=why):
        lab.fetch(plan, source, allow_unpinned=True)
    lab.verdict("v1")
