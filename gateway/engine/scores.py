"""A text to score as a request to Triton: the unary model with the request parameter ``score_from``.

FasterTransformer tells log probabilities of what it generates only, so this is our backend's own; a model
that can says so in its configuration (the parameter ``scores``), and no other is asked.
"""

from tritonclient.grpc import service_pb2

from gateway.engine import tensors
from gateway.engine.base import GenerateRequest, Sampling, ScoreRequest
from gateway.engine.model_metadata import ModelMetadata
from gateway.errors import bad_gateway, invalid


def build(job: ScoreRequest, interface: ModelMetadata, eos_id: int) -> service_pb2.ModelInferRequest:
    """Return the request; raises 400 where the model cannot score."""
    if not interface.scores:
        raise invalid(
            "This model server tells no log probabilities of a given text. Leave out echo or logprobs, or "
            "serve the model with a runtime that can (ctranslate2).",
            "logprobs",
            "unsupported_parameter",
        )
    nothing = GenerateRequest(
        job.ids, 0, Sampling(0.0), (0,), logprobs=True, deadline_s=job.deadline_s, request_id=job.request_id
    )
    request = tensors.build(nothing, interface, eos_id)
    request.parameters["score_from"].int64_param = job.start
    return request


def read(response: service_pb2.ModelInferResponse, job: ScoreRequest) -> list[float]:
    """Return one log probability for each token from ``job.start`` on; raises 502 for anything else."""
    found = tensors.log_probs(tensors.outputs(response))
    wanted = len(job.ids) - job.start
    if found is None or found.shape != (1, wanted):
        raise bad_gateway(f"The model server's answer holds no log probabilities of {wanted} tokens.")
    scores: list[float] = found[0].tolist()
    return scores
