"""Tensors in blocks of rows: a conversion holds one block in float32, whatever the size of a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """One tensor; ``rows`` reads those from the first number up to the second as float32."""

    shape: tuple[int, ...]
    rows: Callable[[int, int], Array]

    def load(self) -> Array:
        """Return the whole tensor: for vectors, and for a part of one layer."""
        return self.rows(0, self.shape[0])

    def blocks(self) -> Iterator[Array]:
        """Yield the tensor in blocks of whole rows, of up to ``BLOCK_BYTES`` or one row."""
        width = int(np.prod(self.shape[1:], dtype=np.int64)) * 4
        step = max(1, BLOCK_BYTES // width)
        for start in range(0, self.shape[0], step):
            yield self.rows(start, min(start + step, self.shape[0]))


def stacked(sources: list[Source]) -> Source:
    """Return the rows of all ``sources`` as one tensor."""
    ends = np.cumsum([source.shape[0] for source in sources]).tolist()

    def rows(start: int, end: int) -> Array:
        parts = []
        for source, last in zip(sources, ends, strict=True):
            first = last - source.shape[0]
            if start < last and end > first:
                parts.append(source.rows(max(start, first) - first, min(end, last) - first))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return Source((ends[-1], *sources[0].shape[1:]), rows)


def picked(source: Source, order: NDArray[Any]) -> Source:
    """Return the rows of ``source`` in ``order``: row ``i`` is row ``order[i]`` of the source."""

    def rows(start: int, end: int) -> Array:
        # In the order of the file, so that runs of consecutive rows are read at once.
        places = np.argsort(order[start:end])
        wanted = order[start:end][places]
        breaks = [0, *(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)]
        result = np.empty((len(wanted), *source.shape[1:]), np.float32)
        for first, last in pairwise(breaks):
            result[places[first:last]] = source.rows(int(wanted[first]), int(wanted[last - 1]) + 1)
        return result

    return Source((len(order), *source.shape[1:]), rows)
