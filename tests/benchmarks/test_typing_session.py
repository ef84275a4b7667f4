"""Replayed typing: the same for a seed, true to the file, and never two requests at once."""

from itertools import pairwise

import pytest

from benchmarks.support.typing_session import session, source_files

TEXT = "".join(
    f"def f{number}(a, b):\n    if a > {number}:\n        return a + b\n    return {number}\n\n\n"
    for number in range(500)
)
OPTIONS = {"seconds": 60.0, "pace": 2.0, "tokens": (200, 400)}


@pytest.fixture
def files(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(TEXT)
    (tmp_path / "short.py").write_text("x = 1\n")
    return source_files(tmp_path)


def test_only_modules_that_are_long_enough_are_typed_in(files):
    assert [path.name for path in files] == ["a.py", "b.py"]
    assert source_files()


def test_a_seed_gives_the_same_session_and_another_seed_another_one(files):
    assert session(files, "1", **OPTIONS) == session(files, "1", **OPTIONS)
    assert session(files, "1", **OPTIONS) != session(files, "2", **OPTIONS)


def test_each_request_ends_before_the_next_one_and_within_the_session(files):
    found = session(files, "1", **OPTIONS).requests
    assert len(found) > 5
    for each, following in pairwise(found):
        assert each.at_s < each.cancelled_at_s <= following.at_s
    assert found[-1].cancelled_at_s <= OPTIONS["seconds"]


def test_what_stands_before_and_after_the_cursor_is_the_file_without_what_is_not_typed_yet(files):
    found = session(files, "1", **OPTIONS)
    typed = found.requests[-1].prefix
    assert typed in TEXT
    for each in found.requests:
        assert typed.startswith(each.prefix)
        assert each.prefix.startswith(found.opening.prefix)
        assert each.suffix == found.opening.suffix
        assert each.prefix + each.truth + "\n" in TEXT + "\n"
    assert typed + found.requests[-1].truth + found.opening.suffix in TEXT


def test_a_slower_pace_stretches_time_and_types_less(files):
    slow = session(files, "1", **{**OPTIONS, "pace": 8.0})
    assert len(slow.requests) < len(session(files, "1", **OPTIONS).requests)


def test_too_many_tokens_for_every_file_are_refused(files):
    with pytest.raises(ValueError, match="choose fewer tokens"):
        session(files, "1", **{**OPTIONS, "tokens": (90_000, 100_000)})
