"""The seam between the scheduler and whatever runs the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..requests import OutputRow


@dataclass(frozen=True, slots=True)
class Options:
    """How to load a model: ``parallel`` batches may run at once, each on ``threads`` cores."""

    model_dir: Path
    precision: str
    context_length: int
    max_rows: int
    parallel: int
    threads: int
    device: str
    device_index: int
    warn: Callable[[str], None]


class Runtime(Protocol):
    """A loaded model."""

    parallel: int
    """How many calls of ``generate`` may run at the same time."""
    max_rows: int
    """How many rows one call may have."""
    vocabulary_size: int
    """Token ids are below this."""
    eos_id: int
    """The model's end-of-text token."""

    def generate(self, rows: Sequence[OutputRow]) -> None:
        """Continue every row until its ``push`` returns True. The rows' settings are equal.

        Either all rows have a seed and are of one request, or none's seed matters. Blocks the calling thread.
        """
        ...

    def score(self, rows: Sequence[OutputRow]) -> None:
        """Tell every row (``scored``) the log probabilities of its prompt from ``score_from`` on.

        Blocks the calling thread. A runtime without this method refuses requests for scores.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...
