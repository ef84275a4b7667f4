"""The responses to a client, sent through Triton."""

import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import triton_python_backend_utils as pb_utils

from . import tensors
from .requests import BadRequestError, OutputRow, Request
from .scheduler import CancelledError

_MARK = re.compile(r"\[(INTERNAL|INVALID_ARG|CANCELLED)\] ")
# In Triton's message when a request's process has died; its other messages mean that it took no request.
_CRASHED = "healthy"


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


class WholeReply(_Reply):
    """One response for the whole request."""

    def __init__(
        self,
        sender: Any,  # noqa: ANN401 -- Triton ships no types
        width: int,
        lengths: Sequence[int],
        withdrawn: Callable[[], bool],
    ) -> None:
        super().__init__(sender, withdrawn)
        self._width = width
        self._lengths = lengths

    def failed(self, error: Exception) -> None:
        """Send an error, with its code in the message, as the final response."""
        with self._final():
            send_error(self._sender, error, marked=True)

    def tokens(self, row: OutputRow, start: int, stop: int, *, final: bool) -> None:
        """Do nothing: all tokens are sent together."""

    def done(self, request: Request) -> None:
        """Send the response."""
        outputs = tensors.whole_outputs(request.rows, self._width, self._lengths)
        with self._final():
            _send(self._sender, outputs, final=True)


class PassedReply(_Reply):
    """One response, which another model has computed."""

    def passed(self, response: Any) -> None:  # noqa: ANN401 -- Triton ships no types
        """Send another model's response or error."""
        if response.has_error():
            self._send_final([], _unmarked(response.error().message()))
        else:
            self._send_final(response.output_tensors(), None)

    def failed(self, error: Exception) -> None:
        """Send an error of the call to the other model."""
        self._send_final([], _unmarked(str(error)))

    def _send_final(self, outputs: Sequence[Any], error: Any) -> None:  # noqa: ANN401 -- Triton ships no types
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._sender.send(
                pb_utils.InferenceResponse(outputs, error=error),
                flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
            )


class StreamReply(_Reply):
    """One response for the new tokens of each row, then the end of the stream.

    ``outputs``: the tensors that the client has asked for. Each takes time for each token.
    """

    def __init__(
        self,
        sender: Any,  # noqa: ANN401 -- Triton ships no types
        lengths: Sequence[int],
        withdrawn: Callable[[], bool],
        outputs: Collection[str] = tensors.STREAM_OUTPUTS,
    ) -> None:
        super().__init__(sender, withdrawn)
        self._lengths = lengths
        self._outputs = outputs

    def tokens(self, row: OutputRow, start: int, stop: int, *, final: bool) -> None:
        """Send the new tokens of a row."""
        found = tensors.stream_outputs(row, start, stop, self._lengths[row.index], final=final)
        outputs = {name: value for name, value in found.items() if name in self._outputs}
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


def send_error(sender: Any, error: Exception, *, marked: bool = False) -> None:  # noqa: ANN401 -- Triton ships no types
    """Send an error with the matching gRPC status as the final response.

    Between models Triton passes on the message alone: ``marked`` puts the code in front of it.
    """
    name = "INTERNAL"
    if isinstance(error, BadRequestError):
        name = "INVALID_ARG"
    elif isinstance(error, CancelledError):
        name = "CANCELLED"
    message = f"[{name}] {error}" if marked else str(error)
    response = pb_utils.InferenceResponse(
        output_tensors=[], error=pb_utils.TritonError(message, getattr(pb_utils.TritonError, name))
    )
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _unmarked(message: str) -> Any:  # noqa: ANN401 -- Triton ships no types
    """Return the error that the other model meant; one without a mark is Triton's own."""
    match = _MARK.match(message)
    if match:
        return pb_utils.TritonError(message[match.end() :], getattr(pb_utils.TritonError, match[1]))
    code = pb_utils.TritonError.INTERNAL if _CRASHED in message else pb_utils.TritonError.UNAVAILABLE
    return pb_utils.TritonError(message, code)


def _send(sender: Any, outputs: dict[str, Any], *, final: bool) -> None:  # noqa: ANN401 -- Triton ships no types
    response = pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)
