"""The unary model: a thin front of the decoupled one, which alone holds the weights.

Triton refuses unary calls to a decoupled model. Each request is therefore passed on inside the server
(business logic scripting), with the parameter ``whole``, and its one response is passed back unchanged.
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import triton_python_backend_utils as pb_utils

from .replies import PassedReply
from .scheduler import POLL_S
from .withdrawals import Withdrawals

# Parameters between this model and the decoupled one; a client's own would confuse them.
_OWN_PARAMETERS = ("whole", "withdraw", "withdrawable")


class _Passed:
    """A request that the decoupled model works on, under a name by which it can be withdrawn."""

    def __init__(self, request: Any) -> None:  # noqa: ANN401 -- Triton ships no types
        self.reply = PassedReply(request.get_response_sender())
        self.rows = int(request.inputs()[0].shape()[0])
        self.name = uuid4().hex


class TritonPythonModel:
    """The unary model; ``execute`` returns without waiting for a result."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the threads."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._model = parameters["model"]
        self._outputs = [item["name"] for item in config["output"]]
        self._backlog = int(parameters["backlog"])
        self._withdrawals = Withdrawals()
        self._passed: set[_Passed] = set()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(self._backlog)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def execute(self, requests: list[Any]) -> None:
        """Pass the requests on. Block while too many rows are under way, so that Triton's queue fills up."""
        for request in requests:
            passed = _Passed(request)
            with self._changed:
                self._changed.wait_for(lambda: self._rows() < self._backlog)
                self._passed.add(passed)
            try:
                self._pool.submit(self._pass, passed, self._message(request, passed))
            except Exception as error:  # noqa: BLE001 -- it concerns this request, and must free its place
                self._end(passed, error)

    def finalize(self) -> None:
        """Stop the threads. Triton calls this when no request is under way."""
        self._closed.set()
        self._watcher.join(timeout=10)
        self._pool.shutdown()
        self._withdrawals.close()

    def _rows(self) -> int:
        return sum(passed.rows for passed in self._passed)

    def _message(self, request: Any, passed: _Passed) -> Any:  # noqa: ANN401 -- Triton ships no types
        parameters = json.loads(request.parameters() or "{}")
        parameters = {key: value for key, value in parameters.items() if key not in _OWN_PARAMETERS}
        return pb_utils.InferenceRequest(
            model_name=self._model,
            request_id=request.request_id(),
            inputs=request.inputs(),
            requested_output_names=self._outputs,
            timeout=request.timeout(),
            trace=request.trace(),
            parameters=parameters | {"whole": True, "withdrawable": passed.name},
        )

    def _pass(self, passed: _Passed, message: Any) -> None:  # noqa: ANN401 -- Triton ships no types
        try:
            # The decoupled model's first response is its final one.
            (response, *_) = message.exec(decoupled=True)
            passed.reply.passed(response)
        except Exception as error:  # noqa: BLE001 -- the client receives every error, and the thread continues
            self._end(passed, error)
        else:
            self._end(passed)

    def _end(self, passed: _Passed, error: Exception | None = None) -> None:
        """Free the request's place, after its error if there is one."""
        try:
            if error is not None:
                passed.reply.failed(error)
        finally:
            with self._changed:
                self._passed.remove(passed)
                self._changed.notify_all()

    def _watch(self) -> None:
        """Withdraw the requests that their clients have left."""
        while not self._closed.wait(POLL_S):
            for passed in list(self._passed):
                if passed.reply.cancelled():
                    self._withdrawals.note(passed.name)
