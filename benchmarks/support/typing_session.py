"""People at their keyboards: keystrokes with pauses, replayed from real source files, the same for each seed.

A person types a stretch of an existing file again: the text before it is the prefix, the text after it the
suffix. The editor asks for a completion when no key has come for ``DEBOUNCE_S``, and the next key cancels it.
All times are multiplied by ``pace``: at 1 a person types some 6 characters a second, which no small machine
can follow with several people.
"""

import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DEBOUNCE_S = 0.15
_KEY_S, _WORD_S, _LINE_S, _READING_S = (0.08, 0.25), (0.3, 1.2), (0.6, 2.5), (4.0, 8.0)
# How often a person pauses after a word, and reads what is there instead of typing on.
_PAUSES, _READS = 0.2, 0.15
_CHARS_PER_TOKEN = 3.5
_PREFIX_SHARE = 0.75
_INDENTED = re.compile(" *")
_FILE_CHARS = (20_000, 400_000)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it is sent, when the next key cancels it, and the text around the cursor.

    ``truth`` is the rest of the line as the file has it.
    """

    at_s: float
    cancelled_at_s: float
    prefix: str
    suffix: str
    truth: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """What one person does: opens a file, then types; ``opening`` is the request of the opened file."""

    file: str
    opening: Asked
    requests: Sequence[Asked]


def source_files(folder: Path | None = None) -> list[Path]:
    """Return the modules that are long enough to type in, sorted; by default CPython's standard library."""
    folder = folder or Path(sysconfig.get_paths()["stdlib"])
    low, high = _FILE_CHARS
    return [path for path in sorted(folder.glob("*.py")) if low <= path.stat().st_size <= high]


def session(
    files: Sequence[Path], seed: str, *, seconds: float, pace: float, tokens: tuple[int, int]
) -> Session:
    """Return one person's session of ``seconds``, with about ``tokens`` (least, most) around the cursor.

    Raises ``ValueError`` when no file is long enough.
    """
    chance = random.Random(seed)
    size = int(chance.uniform(*tokens) * _CHARS_PER_TOKEN)
    long_enough = [path for path in files if path.stat().st_size > 2 * size]
    if not long_enough:
        raise ValueError(f"no source file has {2 * size} characters: choose fewer tokens or another folder")
    path = chance.choice(long_enough)
    text = path.read_text(encoding="utf-8")
    before = int(size * _PREFIX_SHARE)
    start = _line_start(text, chance.randrange(before, max(before + 1, len(text) - size)))
    keys = list(_keys(chance, text, start, seconds / pace))
    end = text.find("\n", start + sum(len(each) for _, each in keys))
    suffix = text[end : end + size - before] if end >= 0 else ""
    window = Asked(0.0, seconds, text[_line_start(text, start - before) : start], suffix)
    return Session(path.name, window, list(_asked(keys, window, text[start:], pace)))


def _line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, max(0, position)) + 1


def _keys(chance: random.Random, text: str, position: int, seconds: float) -> Iterator[tuple[float, str]]:
    """Yield the pause before each key, and what it types; indentation is one key."""
    now, last = 0.0, "\n"
    while position < len(text):
        pause = _pause(chance, last)
        if now + pause > seconds:
            return
        indentation = _INDENTED.match(text, position) if last == "\n" else None
        typed = (indentation.group() if indentation else "") or text[position]
        yield pause, typed
        now, position, last = now + pause, position + len(typed), typed[-1]


def _pause(chance: random.Random, last: str) -> float:
    if last == "\n":
        pause = chance.uniform(*_LINE_S)
    elif not last.isalnum() and chance.random() < _PAUSES:
        pause = chance.uniform(*_WORD_S)
    else:
        return chance.uniform(*_KEY_S)
    return pause + (chance.uniform(*_READING_S) if chance.random() < _READS else 0.0)


def _asked(keys: Sequence[tuple[float, str]], window: Asked, text: str, pace: float) -> Iterator[Asked]:
    """Yield a request for each pause in which the editor asks; ``text`` is what the person types."""
    now, typed, end = 0.0, 0, window.cancelled_at_s
    for pause, key in [*keys, (end / pace, "")]:
        asked, cancelled = (now + DEBOUNCE_S) * pace, min((now + pause) * pace, end)
        if asked < cancelled:
            truth = text[typed:].partition("\n")[0]
            yield Asked(asked, cancelled, window.prefix + text[:typed], window.suffix, truth)
        now, typed = now + pause, typed + len(key)
