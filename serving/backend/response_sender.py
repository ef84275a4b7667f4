"""Sends responses from a thread of its own, so that sending does not slow down generation."""

import queue
import threading
from collections.abc import Callable

from .requests import OutputRow


class ResponseSender:
    """Sends each row's new tokens to its client; tokens that arrive during a send go out together."""

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        """Start the thread. ``on_error`` is called with the error of a reply that could not be sent."""
        # A row is queued at most once per token: the bound is the number of running rows times their limits.
        self._rows: queue.SimpleQueue[OutputRow | None] = queue.SimpleQueue()
        self._on_error = on_error
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    def put(self, row: OutputRow) -> None:
        """Queue a row that has grown, finished or failed."""
        self._rows.put(row)

    def close(self) -> None:
        """Send what is queued, and stop the thread."""
        self._rows.put(None)
        self._thread.join(timeout=10)

    def _send_all(self) -> None:
        while (row := self._rows.get()) is not None:
            try:
                _send(row)
            except Exception as error:  # noqa: BLE001 -- one client's broken reply must not stop the others'
                row.request.stopped = True
                self._on_error(error)


def _send(row: OutputRow) -> None:
    request = row.request
    if request.answered:
        return
    sent, progress = row.sent, row.progress
    if progress != sent:
        row.sent = progress
        request.reply.tokens(row, sent[0], progress[0], final=progress[1])
    if all(other.sent[1] for other in request.rows):
        request.complete()
