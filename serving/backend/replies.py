"""The responses to a client, sent through Triton."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import triton_python_backend_utils as pb_utils

from . import tensors
from .requests import BadRequestError, OutputRow, Request
from .scheduler import CancelledError


class _Reply:
    """The responses of one request: one thread sends them while another checks for a cancellation.

    Triton 2.51 frees a request's data with the final response. A check for a cancellation or another response
    after that crashes it with SIGSEGV (``TRITONBACKEND_ResponseFactoryIsCancelled``,
    ``TRITONBACKEND_ResponseSend``; one cancelled stream in 500). A lock therefore orders these calls, and
    nothing follows the final response.
    """

    def __init__(self, sender: Any, withdrawn: Callable[[], bool] = lambda: False) -> None:  # noqa: ANN401 -- Triton ships no types
        self._sender = sender
        self._withdrawn = withdrawn
        self._lock = threading.Lock()
        self._ended = False

    def failed(self, error: Exception) -> None:
        """Send an error as the final response."""
        with self._final():
            send_error(self._sender, error)

    def cancelled(self) -> bool:
        """Return whether the client has cancelled the request, withdrawn it or disconnected."""
        with self._lock:
            return not self._ended and (self._withdrawn() or bool(self._sender.is_cancelled()))

    @contextmanager
    def _final(self) -> Iterator[None]:
        with self._lock:
            self._ended = True
            yield


class UnaryReply(_Reply):
    """One response for the whole request."""

    def __init__(self, sender: Any, width: int, lengths: Sequence[int]) -> None:  # noqa: ANN401 -- Triton ships no types
        super().__init__(sender)
        self._width = width
        self._lengths = lengths

    def tokens(self, row: OutputRow, start: int, stop: int, *, final: bool) -> None:
        """Do nothing: all tokens are sent together."""

    def done(self, request: Request) -> None:
        """Send the response."""
        outputs = tensors.unary_outputs(request.rows, self._width, self._lengths)
        with self._final():
            _send(self._sender, outputs, final=True)


class StreamReply(_Reply):
    """One response for the new tokens of each row, then the end of the stream."""

    def __init__(self, sender: Any, lengths: Sequence[int], withdrawn: Callable[[], bool]) -> None:  # noqa: ANN401 -- Triton ships no types
        super().__init__(sender, withdrawn)
        self._lengths = lengths

    def tokens(self, row: OutputRow, start: int, stop: int, *, final: bool) -> None:
        """Send the new tokens of a row."""
        outputs = tensors.stream_outputs(row, start, stop, self._lengths[row.index], final=final)
        with self._lock:
            if not self._ended:
                _send(self._sender, outputs, final=False)

    def done(self, _request: Request) -> None:
        """End the stream."""
        with self._final():
            send_end(self._sender)


def send_end(sender: Any) -> None:  # noqa: ANN401 -- Triton ships no types
    """Send the final response, without tensors."""
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def send_error(sender: Any, error: Exception) -> None:  # noqa: ANN401 -- Triton ships no types
    """Send an error with the matching gRPC status as the final response."""
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
