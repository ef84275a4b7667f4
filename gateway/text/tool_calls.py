"""Reads a model's tool calls from its text, as the text arrives: what all syntaxes have in common.

What is sent depends on the text alone, not on its pieces. A call whose head names no known function stays
text. Arguments are sent as they come, as OpenAI does: where the engine does not enforce the schema they are
what the model wrote, valid or not.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Content:
    """Text outside of calls."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The begin of the call ``index``, counted from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next piece of a call's arguments: JSON text."""

    index: int
    text: str


Part = Content | CallStart | CallArguments


class ToolCallReader:
    """Reads one answer. A subclass has a method ``_read_<state>`` for each of its states.

    Each takes what it can from ``_held`` and returns whether the state has changed.

    Args:
        openings: the tags by which a call begins; after one the state is ``head``.
        state: the state at the begin of the answer.
        single: whether all calls but the first are dropped.
    """

    def __init__(self, openings: Sequence[str], state: str, *, single: bool) -> None:
        self._openings = openings
        self._tags = re.compile("|".join(map(re.escape, openings)) or r"(?!)")
        self._single = single
        self._state = state
        self._opened = ""
        self._held = ""
        self._parts: list[Part] = []
        self._after_call = False
        self.calls = 0

    def push(self, text: str) -> list[Part]:
        """Add the next piece of text and return what is certain now."""
        self._held += text
        while self._held and getattr(self, f"_read_{self._state}")():
            pass
        return self._sent()

    def end(self) -> list[Part]:
        """Return what was held back, after the end of the text."""
        self._finish()
        self._held = ""
        return self._sent()

    def _finish(self) -> None:
        """Take what is held back at the end of the text, in any state."""
        raise NotImplementedError

    def _sent(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    @property
    def _dropped(self) -> bool:
        return self._single and self.calls > 0

    def _add_text(self, text: str) -> None:
        if text:
            self._after_call = False
        if text and not self._dropped:
            self._parts.append(Content(text))

    def _add_rest(self) -> None:
        """Add what is held back as text, but for space after a call."""
        if not (self._after_call and self._held.isspace()):
            self._add_text(self._held)

    def _begin(self, name: str) -> None:
        if not self._dropped:
            self._parts.append(CallStart(self.calls, name))

    def _add_arguments(self, text: str) -> None:
        if text and not self._dropped:
            self._parts.append(CallArguments(self.calls, text))

    def _end_call(self) -> None:
        self.calls += 1
        self._after_call = True

    def _read_text(self) -> bool:
        """Pass text on up to the next call; return whether one has begun.

        Space before a tag is held back, because what surrounds calls is no content.
        """
        if self._after_call:
            self._held = self._held.lstrip()
        if tag := self._tags.search(self._held):
            before = self._held[: tag.start()]
            self._add_text(before.rstrip())
            self._opened = before[len(before.rstrip()) :] + tag[0]
            self._state, self._held = "head", self._held[tag.end() :]
            return True
        ready = self._held[: len(self._held) - held_back(self._held, self._openings)].rstrip()
        self._add_text(ready)
        self._held = self._held[len(ready) :]
        return False


def held_back(text: str, tags: Sequence[str]) -> int:
    """Return the length of the text's longest end with which a tag begins."""
    longest = max(map(len, tags), default=0) - 1
    ends = range(min(len(text), longest), 0, -1)
    return next((n for n in ends if any(tag.startswith(text[-n:]) for tag in tags)), 0)
