"""Answer clients from a thread of its own, so that sending never slows the generation down."""

import queue
import threading
from collections.abc import Callable

from .requests import OutputRow


class ResponseSender:
    """Tells each row's client of its new tokens; tokens that came while another was told go out together."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        """Start the thread. ``on_error`` hears of replies that could not be sent."""
        # Holds a row once per token at most, so it is bounded by the rows that run times their limits.
        self._rows: queue.SimpleQueue[OutputRow | None] = queue.SimpleQueue()
        self._on_error = on_error
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def put(self, row: OutputRow) -> None:
        """Note that a row has grown, ended or failed."""
        self._rows.put(row)

    def close(self) -> None:
        """Send what is left and stop."""
        self._rows.put(None)
        self._thread.join(timeout=10)

    def _send_all(self) -> None:
        while (row := self._rows.get()) is not None:
            try:
                _send(row)
            except Exception as error:  # noqa: BLE001 -- one client's broken reply must not silence all others
                row.job.stopped = True
                self._on_error(error)


def _send(row: OutputRow) -> None:
    job = row.job
    if job.answered:
        return
    known, progress = row.told, row.progress
    if progress != known:
        row.told = progress
        job.reply.tokens(row, known[0], progress[0], final=progress[1])
    if all(other.told[1] for other in job.rows):
        job.complete()
