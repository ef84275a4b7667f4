"""The way back to a client through Triton."""

from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

from . import tensors
from .rows import BadRequestError, Job, Row
from .scheduler import CancelledError


class UnaryReply:
    """One response for the whole request."""

    def __init__(self, sender: Any, width: int, lengths: Sequence[int]) -> None:  # noqa: ANN401 -- Triton ships no types
        self._sender = sender
        self._width = width
        self._lengths = lengths

    def tokens(self, row: Row, start: int, stop: int, *, final: bool) -> None:
        """Wait: everything goes out together."""

    def done(self, job: Job) -> None:
        """Send the response."""
        _send(self._sender, tensors.unary_outputs(job.rows, self._width, self._lengths), final=True)

    def failed(self, error: Exception) -> None:
        """Send an error instead of the response."""
        send_error(self._sender, error)

    def cancelled(self) -> bool:
        """Say whether the client has gone."""
        return bool(self._sender.is_cancelled())


class StreamReply:
    """A response for each row's new tokens, then the end of the stream."""

    def __init__(self, sender: Any, width: int, lengths: Sequence[int]) -> None:  # noqa: ANN401, ARG002 -- one signature for both
        self._sender = sender
        self._lengths = lengths

    def tokens(self, row: Row, start: int, stop: int, *, final: bool) -> None:
        """Send the new tokens of a row."""
        outputs = tensors.stream_outputs(row, start, stop, self._lengths[row.index], final=final)
        _send(self._sender, outputs, final=False)

    def done(self, _job: Job) -> None:
        """End the stream."""
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def failed(self, error: Exception) -> None:
        """Send an error and end the stream."""
        send_error(self._sender, error)

    def cancelled(self) -> bool:
        """Say whether the client has gone."""
        return bool(self._sender.is_cancelled())


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
