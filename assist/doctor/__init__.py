"""``assist doctor``: what is wrong, root causes first, each with the command that mends it.

A target's checks return findings; ``fold`` puts symptoms below their causes. The faults that they name are in
one table (``faults``).
"""

from typing import Protocol

from assist.doctor.folding import fold
from assist.doctor.service import completion
from assist.findings import Finding

__all__ = ["Target", "completion", "examine"]


class Target(Protocol):
    """Where a service runs: this machine, or hosts."""

    def findings(self) -> list[Finding]:
        """Make every check, changing nothing, and return the findings unordered."""


def examine(target: Target) -> list[Finding]:
    """Return every finding about ``target``: root causes first, with what follows from them folded."""
    return fold(target.findings())
