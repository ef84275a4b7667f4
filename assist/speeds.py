"""Tokens per second of models on this machine, as completions through the running service took them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from assist.atomic_write import write_text


@dataclass(frozen=True)
class Speed:
    """``tokens_per_s``: new tokens of one stream, in whole requests; with which runtime and precision."""

    tokens_per_s: float
    runtime: str
    precision: str


def read(file: Path) -> dict[str, Speed]:
    """Return the speeds by model; none where the file is missing or damaged, as they can be taken again."""
    try:
        document = json.loads(file.read_bytes())
        return {str(model): Speed(**speed) for model, speed in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def record(file: Path, model: str, speed: Speed) -> None:
    """Write the speed of ``model``; the fastest counts, as a cold engine and other work only slow it down.

    Another runtime or precision begins anew. Raises OSError.
    """
    speeds = read(file)
    before = speeds.get(model)
    same = before and (before.runtime, before.precision) == (speed.runtime, speed.precision)
    if before and same and before.tokens_per_s >= speed.tokens_per_s:
        return
    speeds[model] = speed
    document = {name: asdict(each) for name, each in speeds.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(document, indent=1) + "\n", 0o644)
