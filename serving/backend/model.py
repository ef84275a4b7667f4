"""What Triton's Python backend loads: it turns requests into jobs and answers each as it is done."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from . import tensors
from .replies import StreamReply, UnaryReply, send_end, send_error
from .requests import BadRequestError, Reply, Request
from .response_sender import ResponseSender
from .runtimes import Options, load
from .scheduler import Scheduler
from .withdrawals import Withdrawals


class TritonPythonModel:
    """Serves both the unary model and its decoupled twin; Triton never waits for a result in ``execute``."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. Raises with the remedy, which makes Triton refuse to start."""
        _check_numpy()
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._inputs = [item["name"] for item in config["input"]]
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        options = _options(args, parameters, config["max_batch_size"])
        self._runtime = load(parameters["runtime"], options)
        self._limits = tensors.Limits(
            self._runtime.vocabulary_size, self._runtime.eos_id, int(parameters["context_length"])
        )
        self._outbox = ResponseSender(lambda error: pb_utils.Logger.log_error(f"reply not sent: {error}"))
        self._withdrawals = Withdrawals()
        self._scheduler = Scheduler(self._runtime, self._outbox, backlog=int(parameters["backlog"]))

    def execute(self, requests: list[Any]) -> None:
        """Start each request on its own; one that is bad is answered at once and touches no other."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                asked = json.loads(request.parameters() or "{}")
                if self._decoupled and "withdraw" in asked:
                    self._withdrawals.note(str(asked["withdraw"]))
                    self._scheduler.look()
                    send_end(sender)
                else:
                    self._scheduler.submit(self._job(request, sender, asked))
            except BadRequestError as error:
                send_error(sender, error)

    def finalize(self) -> None:
        """Stop the threads and free the model."""
        self._scheduler.close()
        self._outbox.close()
        self._runtime.close()
        self._withdrawals.close()

    def _job(self, request: Any, sender: Any, asked: dict[str, Any]) -> Request:  # noqa: ANN401 -- Triton ships no types
        found = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self._inputs}
        arrays = {name: tensor.as_numpy() for name, tensor in found.items() if tensor is not None}
        lengths = [int(length) for length in arrays["input_lengths"].reshape(-1)]
        reply: Reply
        if self._decoupled:
            reply = StreamReply(sender, lengths, self._withdrawals.asker(asked.get("withdrawable")))
        else:
            reply = UnaryReply(sender, arrays["input_ids"].shape[-1], lengths)
        job = Request(reply, self._outbox.put, request.timeout() / 1e6)
        score_from = asked.get("score_from")
        if score_from is not None and self._decoupled:
            raise BadRequestError("the streaming model scores nothing: send score_from to its unary twin")
        tensors.add_rows(
            job, arrays, self._limits, mergeable=bool(asked.get("batchable")), score_from=score_from
        )
        return job


def _check_numpy() -> None:
    if int(np.__version__.split(".", 1)[0]) >= 2:
        raise RuntimeError(
            f"numpy {np.__version__} breaks this Triton's Python backend (each answer becomes 'output tensor "
            "shape does not match'): install numpy>=1.26.4,<2 into the serving environment"
        )


def _options(args: dict[str, str], parameters: dict[str, str], max_rows: int) -> Options:
    gpu = args["model_instance_kind"] == "GPU"
    model_dir = Path(args["model_repository"]) / args["model_version"] / "model"
    return Options(
        model_dir=model_dir,
        precision=parameters["precision"],
        context_length=int(parameters["context_length"]),
        max_rows=max_rows,
        parallel=int(parameters["parallel"]),
        threads=int(parameters["intra_threads"]),
        device="cuda" if gpu else "cpu",
        device_index=int(args["model_instance_device_id"]) if gpu else 0,
        warn=pb_utils.Logger.log_warn,
    )
