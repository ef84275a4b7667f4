"""The engine's own counters, on Triton's metrics port under the engine's own names."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

_EVERY_S = 1.0


class EngineMetrics:
    """Copies what ``sources`` return, values by name, to Triton once a second."""

    def __init__(
        self,
        sources: Sequence[Callable[[], dict[str, float]]],
        labels: dict[str, str],
        warn: Callable[[str], None],
    ) -> None:
        """Start the thread. Names that end in ``_total`` are counters, others gauges."""
        self._sources = sources
        self._labels = labels
        self._warn = warn
        self._metrics: dict[str, tuple[Any, Any]] = {}
        self._seen: dict[str, float] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._copy_all, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _copy_all(self) -> None:
        while not self._closing.wait(_EVERY_S):
            try:
                for source in self._sources:
                    for name, value in source().items():
                        self._copy(name, value)
            except Exception as error:  # noqa: BLE001 -- metrics must not stop the model
                self._warn(f"could not read the engine's counters, so they stay as they are: {error}")
                return

    def _copy(self, name: str, value: float) -> None:
        counter = name.endswith("_total")
        if name not in self._metrics:
            kind = pb_utils.MetricFamily.COUNTER if counter else pb_utils.MetricFamily.GAUGE
            family = pb_utils.MetricFamily(name=name, description="The engine's own count", kind=kind)
            # Triton removes a metric together with its family's last reference.
            self._metrics[name] = family, family.Metric(labels=self._labels)
        metric = self._metrics[name][1]
        if counter:
            metric.increment(value - self._seen.get(name, 0.0))
        else:
            metric.set(value)
        self._seen[name] = value


def served_model(model_dir: Path) -> dict[str, str]:
    """Return the model and the revision that a folder of the store holds; empty for any other folder."""
    try:
        manifest = json.loads((model_dir / "manifest.json").read_bytes())
        return {"model": str(manifest["model"]), "revision": str(manifest["revision"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def publish_model(model_dir: Path) -> Any:  # noqa: ANN401 -- Triton ships no types
    """Make the served model a metric, which Triton keeps for as long as the result lives."""
    labels = served_model(model_dir)
    if not labels:
        return None
    family = pb_utils.MetricFamily(
        name="assist_engine_model_info",
        description="Model that the engine serves",
        kind=pb_utils.MetricFamily.GAUGE,
    )
    metric = family.Metric(labels=labels)
    metric.set(1)
    return family, metric
