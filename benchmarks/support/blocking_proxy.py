"""FauxPilot's proxy design in its smallest form: one blocking gRPC call in an async handler.

The handler awaits nothing while Triton works, so one process serves one request at a time, as FauxPilot's
does. Same web framework and server, same tokenizer, same tensors and same engine as the gateway: only the
design differs.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from tokenizers import Tokenizer
from tritonclient.grpc import InferenceServerClient, InferInput

from gateway.engine.model_metadata import INPUTS

NUMPY = {"UINT32": np.uint32, "INT32": np.int32, "FP32": np.float32, "BOOL": np.bool_}
MODEL = "fastertransformer"


def inputs(ids: list[int], max_tokens: int) -> list[InferInput]:
    """Return FasterTransformer's tensors for one greedy row."""
    values: dict[str, object] = {
        "input_ids": [ids], "input_lengths": [[len(ids)]], "request_output_len": [[max_tokens]],
        "runtime_top_k": [[1]], "runtime_top_p": [[1.0]], "beam_search_diversity_rate": [[0.0]],
        "random_seed": [[1]], "temperature": [[1.0]], "len_penalty": [[1.0]], "repetition_penalty": [[1.0]],
        "is_return_log_probs": [[False]], "beam_width": [[1]], "start_id": [[0]], "end_id": [[0]],
        "bad_words_list": [[[0], [-1]]], "stop_words_list": [[[0], [-1]]],
    }  # fmt: skip
    tensors = []
    for name, kind in INPUTS.items():
        array = np.array(values[name], NUMPY[kind])
        tensor = InferInput(name, array.shape, kind)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


def make_app(triton: str, tokenizer_file: Path) -> FastAPI:
    """Return the proxy in front of the Triton at ``triton`` (host:port)."""
    client, tokenizer, app = (
        InferenceServerClient(triton),
        Tokenizer.from_file(str(tokenizer_file)),
        FastAPI(),
    )

    @app.post("/v1/completions")
    async def complete(request: Request) -> dict[str, object]:
        body = json.loads(await request.body())
        ids = tokenizer.encode(body["prompt"]).ids
        answer = client.infer(MODEL, inputs(ids, body["max_tokens"]))  # blocks the event loop: the point
        length = int(answer.as_numpy("sequence_length")[0][0])
        text = tokenizer.decode(answer.as_numpy("output_ids")[0][0][len(ids) : length].tolist())
        return {"choices": [{"text": text, "index": 0, "finish_reason": "length", "logprobs": None}]}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    triton, tokenizer_file, port = sys.argv[1:]
    os.environ.pop("https_proxy", None)
    uvicorn.run(make_app(triton, Path(tokenizer_file)), port=int(port), log_level="warning", access_log=False)
