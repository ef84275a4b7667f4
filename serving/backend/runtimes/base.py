"""The interface between the scheduler and the runtimes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..requests import OutputRow


@dataclass(frozen=True, slots=True)
class Options:
    """How to load a model: at most ``parallel`` batches run at the same time, each on ``threads`` cores."""

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
    """The number of calls of ``generate`` that may run at the same time."""
    max_rows: int
    """The number of rows that one call may have."""
    vocabulary_size: int
    """Token ids are below this."""
    eos_id: int
    """The model's end-of-text token."""

    def generate(self, rows: Sequence[OutputRow]) -> None:
        """Continue every row until its ``push`` returns True. The rows' parameters are equal.

        Either all rows have a seed and belong to one request, or no seed matters. Blocks the calling thread.
        """
        ...

    def score(self, rows: Sequence[OutputRow]) -> None:
        """Pass each row (``scored``) the log probabilities of its prompt from ``score_from`` on.

        Blocks the calling thread. A runtime that cannot score does not have this method.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...
