r"""Stop strings, matched on text.

A stop string can be tokenised in more than one way: ``"\ndef "`` encodes to other ids than the ``"\ndef
hello"`` that a model writes, so a match on token ids misses it, as with three of Copilot's four stop strings
for Python.
"""

from collections.abc import Sequence


class StopMatcher:
    """Passes text on up to the first stop string, and holds back what may be the start of one.

    The first stop is the one that ends first in the text, then the one that starts first. That depends on the
    text alone, so the result is the same however the text is chunked.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def push(self, piece: str) -> str:
        """Add the next piece of text and return what cannot belong to a stop; nothing after a match."""
        if self.matched is not None:
            return ""
        text = self._held + piece
        match = self._first_stop(text)
        if match is not None:
            start, self.matched = match
            self._held = ""
            return text[:start]
        keep = self._may_start_at(text)
        self._held = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """Return the text that was held back, after the end of the text, which completed no stop."""
        held, self._held = self._held, ""
        return held

    def _first_stop(self, text: str) -> tuple[int, str] | None:
        """Return the first stop's start and the stop itself."""
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0:
                candidate = (start + len(stop), start, stop)
                best = candidate if best is None else min(best, candidate)
        return None if best is None else best[1:]

    def _may_start_at(self, text: str) -> int:
        """Return the first position from which the rest of the text is the beginning of a stop."""
        earliest = len(text)
        for stop in self._stops:
            position = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while 0 <= position < earliest:
                if stop.startswith(text[position:]):
                    earliest = position
                    break
                position = text.find(stop[0], position + 1)
        return earliest
