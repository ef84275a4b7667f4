"""The engine's own counters, on Triton's metrics port under the engine's own names."""

import threading
from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils

_EVERY_S = 1.0


class EngineMetrics:
    """Copies a runtime's ``counters`` to Triton once a second; a runtime without any has no metrics."""

    def __init__(self, runtime: Any, labels: dict[str, str], warn: Callable[[str], None]) -> None:  # noqa: ANN401 -- ``counters`` is optional
        """Start the thread. Names that end in ``_total`` are counters, others gauges."""
        self._counters: Callable[[], dict[str, float]] | None = getattr(runtime, "counters", None)
        self._labels = labels
        self._warn = warn
        self._metrics: dict[str, tuple[Any, Any]] = {}
        self._seen: dict[str, float] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._copy_all, daemon=True)
        if self._counters is not None:
            self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _copy_all(self) -> None:
        assert self._counters is not None  # noqa: S101 -- the thread runs only then
        while not self._closing.wait(_EVERY_S):
            try:
                for name, value in self._counters().items():
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
