r"""Stop strings, matched on text.

A stop string can be tokenised in more than one way: ``"\ndef "`` encodes to other ids than the ``"\ndef
hello"`` that a model writes, so a match on token ids misses it (reference: three of Copilot's four Python
stops).
"""

from collections.abc import Sequence


class StopMatcher:
    """Lets text through up to the first stop string, and holds back what may be the start of one.

    The first stop is the one that ends first in the text, then the one that starts first; that is a
    property of the text alone, so the result is the same however the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def push(self, piece: str) -> str:
        """Take the next piece of text and return what is now certain; after a match, nothing more comes."""
        if self.matched is not None:
            return ""
        text = self._held + piece
        found = self._first_stop(text)
        if found is not None:
            self._held = ""
            self.matched = found[1]
            return text[: found[0]]
        keep = self._may_start_at(text)
        self._held = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """Return what was held back: the text ended and no stop came of it."""
        held, self._held = self._held, ""
        return held

    def _first_stop(self, text: str) -> tuple[int, str] | None:
        """Return where the first stop starts, and which it is."""
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0:
                candidate = (start + len(stop), start, stop)
                best = candidate if best is None else min(best, candidate)
        return None if best is None else best[1:]

    def _may_start_at(self, text: str) -> int:
        """Return the first position from which the rest of the text is the beginning of some stop."""
        earliest = len(text)
        for stop in self._stops:
            position = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while 0 <= position < earliest:
                if stop.startswith(text[position:]):
                    earliest = position
                    break
                position = text.find(stop[0], position + 1)
        return earliest
