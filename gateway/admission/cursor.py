"""Where in a file a request is typed."""

from dataclasses import dataclass

# Characters by which two requests of one place differ: a line or two of typing, or a deletion.
_NEAR = 200


@dataclass(frozen=True, slots=True)
class Cursor:
    """The text before and after the cursor of an editor."""

    before: str
    after: str

    def follows(self, other: "Cursor") -> bool:
        """Return whether typing or deleting at ``other`` leads here."""
        shorter, longer = sorted((self.before, other.before), key=len)
        near = 0 < len(longer) - len(shorter) <= _NEAR
        return near and self.after == other.after and longer.startswith(shorter)
