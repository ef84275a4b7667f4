"""The way back to a client through Triton."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import triton_python_backend_utils as pb_utils

from . import tensors
from .requests import BadRequestError, OutputRow, Request
from .scheduler import CancelledError


class _Reply:
    """A client that one thread answers while another asks whether it is still there.

    Triton 2.51 frees what it keeps of a request with the final response. Asked about a cancellation after
    that, or given another response, it dies of SIGSEGV (``TRITONBACKEND_ResponseFactoryIsCancelled``,
    ``TRITONBACKEND_ResponseSend``; one cancelled stream in 500). So all of them take turns, and the final
    response is the last.
    """

    def __init__(self, sender: Any, withdrawn: Callable[[], bool] = lambda: False) -> None:  # noqa: ANN401 -- Triton ships no types
        self._sender = sender
        self._withdrawn = withdrawn
        self._turn = threading.Lock()
        self._ended = False

    def failed(self, error: Exception) -> None:
        """Send an error, and end the exchange."""
        with self._last_turn():
            send_error(self._sender, error)

    def cancelled(self) -> bool:
        """Say whether the client has gone."""
        with self._turn:
            return not self._ended and (self._withdrawn() or bool(self._sender.is_cancelled()))

    @contextmanager
    def _last_turn(self) -> Iterator[None]:
        with self._turn:
            self._ended = True
            yield


class UnaryReply(_Reply):
    """One response for the whole request."""

    def __init__(self, sender: Any, width: int, lengths: Sequence[int]) -> None:  # noqa: ANN401 -- Triton ships no types
        super().__init__(sender)
        self._width = width
        self._lengths = lengths

    def tokens(self, row: OutputRow, start: int, stop: int, *, final: bool) -> None:
        """Wait: everything goes out together."""

    def done(self, job: Request) -> None:
        """Send the response."""
        outputs = tensors.unary_outputs(job.rows, self._width, self._lengths)
        with self._last_turn():
            _send(self._sender, outputs, final=True)


class StreamReply(_Reply):
    """A response for each row's new tokens, then the end of the stream."""

    def __init__(self, sender: Any, lengths: Sequence[int], withdrawn: Callable[[], bool]) -> None:  # noqa: ANN401 -- Triton ships no types
        super().__init__(sender, withdrawn)
        self._lengths = lengths

    def tokens(self, row: OutputRow, start: int, stop: int, *, final: bool) -> None:
        """Send the new tokens of a row."""
        outputs = tensors.stream_outputs(row, start, stop, self._lengths[row.index], final=final)
        with self._turn:
            if not self._ended:
                _send(self._sender, outputs, final=False)

    def done(self, _job: Request) -> None:
        """End the stream."""
        with self._last_turn():
            send_end(self._sender)


def send_end(sender: Any) -> None:  # noqa: ANN401 -- Triton ships no types
    """End the exchange."""
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def send_error(sender: Any, error: Exception) -> None:  # noqa: ANN401 -- Triton ships no types
    """Answer with an error of the fitting gRPC status, and end the exchange."""
    code = pb_utils.TritonError.INTERNAL
    if isinstance(error, BadRequestError):
        code = pb_utils.TritonError.INVALID_ARG
    elif isinstance(error, CancelledError):
        code = pb_utils.TritonError.CANCELLED
    response = pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error), code))
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _send(sender: Any, outputs: dict[str, Any], *, final: bool) -> None:  # noqa: ANN401 -- Triton ships no types
    response = pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)
