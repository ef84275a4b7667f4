"""The backend's side: NVIDIA's sample tensors on the real server, a backend that fails, a gateway that stops."""

import contextlib
import queue
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from testing.servers.gateway_process import running_gateway
from testing.until import until
from tests.gateway.replay import case

SAMPLES, VLLM = "ft_backend_requests.json", "vllm_completions.json"
VOCABULARY = 2048


def sample(name: str) -> dict[str, np.ndarray]:
    """Return a sample's tensors; GPT-2's token ids are taken into the small model's vocabulary."""
    request = case(SAMPLES, name)["content"]["request"]
    found = {each["name"]: np.array(each["data"], each["dtype"]) for each in request}
    found["input_ids"] %= VOCABULARY
    return found


def inputs(
    server: grpc.InferenceServerClient, model: str, arrays: dict[str, np.ndarray]
) -> list[grpc.InferInput]:
    """Return the request's inputs in the model's own types: FauxPilot's seed is INT32, NVIDIA's sample UINT64."""
    types = {each.name: each.datatype for each in server.get_model_metadata(model).inputs}
    found = []
    for name, array in arrays.items():
        typed = array.astype(triton_to_np_dtype(types[name]))
        found.append(grpc.InferInput(name, typed.shape, np_to_triton_dtype(typed.dtype)))
        found[-1].set_data_from_numpy(typed)
    return found


def generated(answer: grpc.InferResult, length: int) -> list[list[int]]:
    rows, ends = answer.as_numpy("output_ids")[:, 0], answer.as_numpy("sequence_length")[:, 0]
    return [row[length:end].tolist() for row, end in zip(rows, ends, strict=True)]


@pytest.mark.triton
def test_nvidias_sample_request_is_answered_with_its_shapes_and_equal_rows_are_equal(triton):
    arrays = sample("sample_request.json")
    rows, length = arrays["input_ids"].shape
    with grpc.InferenceServerClient(triton.grpc) as server:
        answer = server.infer("fastertransformer", inputs(server, "fastertransformer", arrays))
    limit = int(arrays["request_output_len"].max())
    assert answer.as_numpy("output_ids").shape == (rows, 1, length + limit)
    assert answer.as_numpy("cum_log_probs").shape == (rows, 1)
    assert answer.as_numpy("output_log_probs").shape == (rows, 1, limit)
    texts = generated(answer, length)
    assert all(0 < len(text) <= limit for text in texts)
    assert arrays["input_ids"][0].tolist() == arrays["input_ids"][6].tolist()
    assert texts[0] == texts[6]


@pytest.mark.triton
def test_nvidias_streaming_sample_says_what_the_unary_model_says(triton):
    arrays = sample("sample_request_stream.json")
    length, events = arrays["input_ids"].shape[1], queue.Queue()
    with grpc.InferenceServerClient(triton.grpc) as server:
        whole = server.infer("fastertransformer", inputs(server, "fastertransformer", arrays))
        server.start_stream(lambda result, error: events.put((result, error)))
        model = "fastertransformer_stream"
        server.async_stream_infer(model, inputs(server, model, arrays), enable_empty_final_response=True)
        streamed: dict[int, list[int]] = {}
        while True:
            result, error = events.get(timeout=60)
            assert error is None
            if result.get_response().parameters["triton_final_response"].bool_param:
                break
            row = int(result.as_numpy("row_index")[0, 0])
            streamed.setdefault(row, []).extend(result.as_numpy("output_ids")[0, 0].tolist())
    assert [streamed[row] for row in range(len(streamed))] == generated(whole, length)


@pytest.mark.triton
def test_nvidias_text_ensemble_is_no_model_of_ours_and_is_refused_as_unknown(triton):
    """Text becomes tokens in the gateway, so that a completion can be cut at stop strings and streamed as UTF-8."""
    name = case(SAMPLES, "sample_request_ensemble.json")["content"]["config"]["model_name"]
    with grpc.InferenceServerClient(triton.grpc) as server:
        assert not server.is_model_ready(name)
        assert {each.name for each in server.get_model_repository_index().models} == {
            "fastertransformer",
            "fastertransformer_stream",
        }


@pytest.mark.parametrize(("mode", "status"), [("unavailable", 503), ("no length", 502)])
async def test_a_backend_that_finishes_with_an_error_is_an_error(client, script, mode: str, status: int):
    """Where vLLM answers 500, the gateway tells whether a retry may help (503) or the backend is broken (502)."""
    assert case(VLLM, "engine_error_nonstream")["expect"]["status"] == 500
    script.mode = mode
    if mode == "no length":
        script.change = lambda arrays: arrays.pop("sequence_length")
    answer = await client.post("/v1/completions", json={"prompt": "x"})
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "server_error"


def ask_until_refused(url: str, found: list[int]) -> None:
    """Collect the statuses of one request after the other until 503, or until the server's end is seen.

    A request that crosses the close of a kept connection was never read (RFC 9112 section 9.3.1), so the log,
    which has a line for every request that was, tells it from a lost one.
    """
    with httpx.Client(base_url=url, timeout=100) as http, contextlib.suppress(httpx.TransportError):
        while 503 not in found:
            found.append(
                http.post("/v1/completions", json={"prompt": "def f():", "max_tokens": 24}).status_code
            )


@pytest.mark.triton
def test_ten_looping_clients_lose_no_request_that_was_accepted_when_the_gateway_stops(triton, tmp_path):
    assert case(VLLM, "shutdown_drain")["expect"] == "in-flight finish 200; new ones 503/closed"
    with running_gateway(triton.grpc, tmp_path, wait_for="/ready") as gateway, ThreadPoolExecutor(10) as pool:
        found: list[list[int]] = [[] for _ in range(10)]
        clients = [pool.submit(ask_until_refused, gateway.url, each) for each in found]
        until(lambda: min(map(len, found)) >= 3)
        assert not any(client.done() for client in clients)
        gateway.signal(signal.SIGTERM)
        for client in clients:
            client.result(100)
        answered = [status for each in found for status in each]
        assert gateway.wait(100) == 0
        logged = [line["status_code"] for line in gateway.lines() if line.get("path") == "/v1/completions"]
    assert set(answered) <= {200, 503}
    assert sorted(answered) == sorted(logged)
