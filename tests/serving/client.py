"""A gRPC client that sends what FauxPilot sends."""

import queue

import numpy as np
import tritonclient.grpc as grpc
from tokenizers import Tokenizer

from testing.triton_inputs import inputs

UNARY, STREAM = "fastertransformer", "fastertransformer_stream"


def tensors(ids, limit, *, n=1, temperature=0.0, top_p=1.0, top_k=0, seed=1, stop=None, **changes):
    """Return FauxPilot's sixteen tensors for one prompt."""

    def every(value, kind):
        return np.full((n, 1), value, kind)

    none = np.array([[[0], [-1]]], np.int32)
    found = {
        "input_ids": np.repeat(np.array([ids], np.uint32), n, 0),
        "input_lengths": every(len(ids), np.uint32),
        "request_output_len": every(limit, np.uint32),
        "runtime_top_k": every(1 if temperature == 0 else top_k, np.uint32),
        "runtime_top_p": every(top_p, np.float32),
        "beam_search_diversity_rate": every(0.0, np.float32),
        "random_seed": every(seed, np.int32),
        "temperature": every(temperature or 1.0, np.float32),
        "len_penalty": every(1.0, np.float32),
        "repetition_penalty": every(1.0, np.float32),
        "is_return_log_probs": every(1, np.bool_),
        "beam_width": every(1, np.uint32),
        "start_id": every(50256, np.uint32),
        "end_id": every(50256, np.uint32),
        "bad_words_list": np.repeat(none, n, 0),
        "stop_words_list": np.repeat(none if stop is None else np.array([stop], np.int32), n, 0),
    }
    return found | changes


class Client:
    """Prompts in, token ids or text out. One per thread."""

    def __init__(self, server) -> None:
        self.tokenizer = Tokenizer.from_file(str(server.tokenizer_path))
        self.grpc = grpc.InferenceServerClient(server.grpc)

    def infer(self, prompt, limit=16, *, call=None, **options):
        """Return the unary model's raw answer and the prompt's length."""
        ids = self.tokenizer.encode(prompt).ids if isinstance(prompt, str) else prompt
        arrays = inputs(tensors(ids, limit, **options))
        return self.grpc.infer(UNARY, arrays, **(call or {})), len(ids)

    def ids(self, prompt, limit=16, **options):
        """Return the new tokens of every row."""
        answer, length = self.infer(prompt, limit, **options)
        totals = answer.as_numpy("sequence_length")[:, 0]
        rows = answer.as_numpy("output_ids")[:, 0]
        return [row[length:total].tolist() for row, total in zip(rows, totals, strict=True)]

    def text(self, prompt, limit=16, **options):
        return [self.tokenizer.decode(row) for row in self.ids(prompt, limit, **options)]

    def start(self, prompts, limit=16, **options):
        """Start a stream for each prompt; return the queue of (request id, answer, error)."""
        events = queue.Queue()

        def on_event(result, error):
            events.put((result.get_response().id if result else None, result, error))

        self.grpc.start_stream(on_event)
        for index, prompt in enumerate(prompts):
            ids = self.tokenizer.encode(prompt).ids if isinstance(prompt, str) else prompt
            arrays = inputs(tensors(ids, limit, **options))
            self.grpc.async_stream_infer(
                STREAM, arrays, request_id=str(index), enable_empty_final_response=True
            )
        return events

    def stream(self, prompt, limit=16, **options):
        """Return (row index, new ids, total, final) of every response of one stream."""
        events, found = self.start([prompt], limit, **options), []
        try:
            while True:
                _, result, error = events.get(timeout=60)
                if error:
                    raise error
                if is_end(result):
                    return found
                found.append(
                    (
                        int(result.as_numpy("row_index")[0, 0]),
                        result.as_numpy("output_ids")[0, 0].tolist(),
                        int(result.as_numpy("sequence_length")[0, 0]),
                        bool(result.as_numpy("row_final")[0, 0]),
                    )
                )
        finally:
            self.grpc.stop_stream()


def is_end(result) -> bool:
    return result.get_response().parameters["triton_final_response"].bool_param
