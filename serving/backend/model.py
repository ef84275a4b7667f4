"""The model that holds the weights: starts each request, and responds when tokens arrive or all are there."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from . import tensors
from .engine_metrics import EngineMetrics, publish_model
from .replies import StreamReply, WholeReply, send_end, send_error
from .requests import BadRequestError, Reply, Request
from .response_sender import ResponseSender
from .runtimes import Options, load
from .scheduler import Places, Scheduler
from .withdrawals import Withdrawals

# The gateway's own limit of a schema, with room for what it writes around it.
MAX_GRAMMAR = 128 * 1024


class TritonPythonModel:
    """The decoupled model; ``execute`` returns without waiting for a result.

    The request parameter ``whole`` asks for one response with the unary model's tensors (``front.py``).
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. An exception, which names the remedy, makes Triton refuse to start."""
        started = time.monotonic()
        _check_numpy()
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._constrains = parameters.get("constrains") == "true"
        self._inputs = [item["name"] for item in config["input"]]
        options = _options(args, parameters, config["max_batch_size"])
        self._runtime = load(parameters["runtime"], options)
        self._limits = tensors.Limits(
            self._runtime.vocabulary_size, self._runtime.eos_id, int(parameters["context_length"])
        )
        self._sender = ResponseSender(
            lambda error: pb_utils.Logger.log_error(f"could not send a response: {error}")
        )
        self._withdrawals = Withdrawals()
        self._scheduler = Scheduler(
            self._runtime,
            self._sender,
            backlog=int(parameters["backlog"]),
            places=Places(int(parameters["streams"]), int(parameters["wholes"])),
            tokens=int(parameters["tokens"]),
        )
        self._model_info = publish_model(options.model_dir)
        labels = {"model": args["model_name"], "instance": args["model_instance_name"]}
        loaded = {"assist_engine_load_seconds": time.monotonic() - started}
        sources = [
            lambda: loaded,
            self._scheduler.load,
            *filter(None, [getattr(self._runtime, "counters", None)]),
        ]
        self._metrics = EngineMetrics(sources, labels, pb_utils.Logger.log_warn)

    def execute(self, requests: list[Any]) -> None:
        """Start each request on its own; an invalid one receives an error at once and affects no other."""
        for triton_request in requests:
            triton_sender = triton_request.get_response_sender()
            parameters = json.loads(triton_request.parameters() or "{}")
            try:
                if "withdraw" in parameters:
                    self._withdrawals.note(str(parameters["withdraw"]))
                    self._scheduler.check_cancelled()
                    send_end(triton_sender)
                else:
                    self._scheduler.submit(self._request(triton_request, triton_sender, parameters))
            except BadRequestError as error:
                send_error(triton_sender, error, marked=bool(parameters.get("whole")))

    def finalize(self) -> None:
        """Stop the threads and free the model."""
        self._metrics.close()
        self._scheduler.close()
        self._sender.close()
        self._runtime.close()
        self._withdrawals.close()

    def _request(self, triton_request: Any, triton_sender: Any, parameters: dict[str, Any]) -> Request:  # noqa: ANN401 -- Triton ships no types
        inputs = {name: pb_utils.get_input_tensor_by_name(triton_request, name) for name in self._inputs}
        arrays = {name: tensor.as_numpy() for name, tensor in inputs.items() if tensor is not None}
        lengths = [int(length) for length in arrays["input_lengths"].reshape(-1)]
        withdrawn = self._withdrawals.check(parameters.get("withdrawable"))
        whole, score_from = bool(parameters.get("whole")), parameters.get("score_from")
        reply: Reply
        if whole:
            reply = WholeReply(triton_sender, arrays["input_ids"].shape[-1], lengths, withdrawn)
        else:
            reply = StreamReply(
                triton_sender, lengths, withdrawn, frozenset(triton_request.requested_output_names())
            )
        if score_from is not None and not whole:
            raise BadRequestError(
                "the streaming model cannot score prompt tokens: send score_from to the unary model"
            )
        request = Request(reply, self._sender.put, triton_request.timeout() / 1e6, whole=whole)
        tensors.add_rows(
            request,
            arrays,
            self._limits,
            mergeable=bool(parameters.get("batchable")),
            score_from=score_from,
            grammar=self._grammar(parameters),
        )
        return request

    def _grammar(self, parameters: dict[str, Any]) -> str:
        grammar = parameters.get("grammar", "")
        if not isinstance(grammar, str) or len(grammar) > MAX_GRAMMAR:
            raise BadRequestError(f"grammar must be a text of at most {MAX_GRAMMAR} characters")
        if grammar and not self._constrains:
            raise BadRequestError("this model takes no grammar: serve its GGUF file with llama.cpp")
        return grammar


def _check_numpy() -> None:
    if int(np.__version__.split(".", 1)[0]) >= 2:
        raise RuntimeError(
            f"numpy {np.__version__} breaks this Triton's Python backend (each response becomes 'output "
            "tensor shape does not match'): install numpy>=1.26.4,<2 into the serving environment"
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
