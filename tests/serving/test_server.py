"""The real tritonserver with the real tiny model."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from tritonclient.utils import InferenceServerException

from serving.tritonserver import shm_prefix
from testing.servers.triton import TINY
from testing.triton_inputs import inputs
from testing.until import until
from tests.serving import reference
from tests.serving.client import STREAM, UNARY, Client, is_end, tensors
from tests.serving.local import PROMPTS, TOKENIZER

pytestmark = pytest.mark.triton


@pytest.fixture
def client(triton):
    found = Client(triton)
    yield found
    found.grpc.close()


def test_fauxpilots_request_is_answered_with_fastertransformers_tensors(client):
    answer, length = client.infer("if __name__ ==", 16, n=2)
    shapes = {output.name: tuple(output.shape) for output in answer.get_response().outputs}
    assert shapes == {
        "output_ids": (2, 1, length + 16), "sequence_length": (2, 1),
        "cum_log_probs": (2, 1), "output_log_probs": (2, 1, 16),
    }  # fmt: skip
    assert reference.regret(TINY, TOKENIZER.encode(PROMPTS[-1]).ids, client.ids(PROMPTS[-1], 8)[0]) < 1


def test_many_clients_with_mixed_requests_get_what_each_would_get_alone(triton, client):
    work = [(prompt, limit) for prompt in PROMPTS for limit in (1, 12, 40)]
    alone = [client.ids(prompt, limit) for prompt, limit in work]

    def one(item):
        own = Client(triton)
        try:
            return own.ids(*item)
        finally:
            own.grpc.close()

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(one, work)) == alone


def test_one_bad_request_never_fails_the_others(triton, client):
    expected = client.ids("def hello(", 30)
    results = []

    def good():
        results.append(Client(triton).ids("def hello(", 30))

    threads = [threading.Thread(target=good) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        with pytest.raises(InferenceServerException, match="exceed the model's context length"):
            client.ids("def hello(", 4000)
    for thread in threads:
        thread.join(60)
    assert results == [expected] * 6


def test_a_request_that_is_too_long_is_an_invalid_argument(client):
    with pytest.raises(InferenceServerException) as caught:
        client.ids("x", 4000)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert "context length of 2048" in caught.value.message()


def test_nothing_is_generated_where_nothing_is_asked_for(client):
    assert client.ids("def hello(", 0) == [[]]
    assert client.stream("def hello(", 0) == [(0, [], 5, True)]


def test_a_seed_reproduces_through_the_server(client):
    options = {"n": 3, "temperature": 0.9, "top_p": 0.95, "seed": 11}
    first = client.ids("def hello(", 24, **options)
    assert client.ids("def hello(", 24, **options) == first
    assert client.ids("def hello(", 24, **options | {"seed": 12}) != first


def test_a_mergeable_seed_is_accepted(client):
    assert client.ids("def hello(", 8, temperature=0.9, call={"parameters": {"batchable": True}})


def test_a_stream_says_what_the_unary_model_says(client):
    whole = client.ids("def hello(", 40, n=2)
    parts = client.stream("def hello(", 40, n=2)
    for row in range(2):
        mine = [part for part in parts if part[0] == row]
        assert [token for _, ids, _, _ in mine for token in ids] == whole[row]
        assert [final for *_, final in mine] == [False] * (len(mine) - 1) + [True]
        assert mine[-1][2] == 5 + 40


def test_several_streams_advance_at_the_same_time(client):
    events = client.start(PROMPTS[:3], 1900)
    order, ended = [], 0
    while ended < 3:
        name, result, error = events.get(timeout=60)
        assert error is None
        ended += is_end(result)
        order.append(name)
    client.grpc.stop_stream()
    firsts = [order.index(str(index)) for index in range(3)]
    lasts = [len(order) - 1 - order[::-1].index(str(index)) for index in range(3)]
    assert max(firsts) < min(lasts), "one stream ended before another had begun"


def test_a_bad_stream_ends_with_its_error(client):
    events = client.start(["x"], 4000)
    _, _, error = events.get(timeout=30)
    client.grpc.stop_stream()
    assert "context length" in error.message()


def test_the_streaming_model_refuses_unary_calls(client):
    with pytest.raises(InferenceServerException, match="decoupled"):
        client.grpc.infer(STREAM, inputs(tensors([5, 6], 4)))


def test_a_client_that_gives_up_stops_the_work(triton, client):
    with pytest.raises(InferenceServerException, match="Deadline"):
        client.ids("def hello(", 1900, n=16, call={"client_timeout": 0.1})
    deadline = time.monotonic() + 20
    while pending(triton) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pending(triton) == 0
    assert client.ids("x", 1)


def test_a_unary_client_that_leaves_ends_the_work_in_the_engine(triton, client):
    """The engine runs one batch of whole requests at a time here: the next one is answered when the first has ended."""
    before, begun = withdrawn(triton), metric(triton, "nv_inference_exec_count", STREAM)
    call = client.grpc.async_infer(UNARY, inputs(tensors([5, 6], 2000, n=16)), lambda *_: None)
    until(lambda: metric(triton, "nv_inference_exec_count", STREAM) > begun, pause_s=0.02)
    call.cancel()
    until(lambda: withdrawn(triton) - before, pause_s=0.02)
    assert client.ids("x", 1)


def test_whole_requests_do_not_keep_a_stream_waiting(client):
    ended = threading.Event()
    call = client.grpc.async_infer(UNARY, inputs(tensors([5, 6], 2000, n=16)), lambda *_: ended.set())
    assert client.stream("def hello(", 4)[-1][-1]
    assert not ended.is_set(), "the stream waited for the whole request"
    call.cancel()


def test_one_process_alone_has_a_runtime(triton):
    family = psutil.Process(triton.pid).children(recursive=True)
    stubs = [each for each in family if "triton_python_backend_stub" in each.cmdline()[0]]
    assert len(stubs) == 2
    engines = [each for each in stubs if any("libctranslate2" in m.path for m in each.memory_maps())]
    assert [STREAM in " ".join(each.cmdline()) for each in engines] == [True]


def metric(triton, name: str, model: str) -> int:
    import httpx

    text = httpx.get(f"http://{triton.metrics}/metrics").text
    return sum(map(int, re.findall(rf'{name}\{{model="{model}".*\}} (\d+)', text)))


def pending(triton) -> int:
    """Return how many requests Triton still holds."""
    return metric(triton, "nv_inference_pending_request_count", UNARY)


def withdrawn(triton) -> set[Path]:
    prefix = shm_prefix(int(triton.grpc.rpartition(":")[2]))
    return set(Path("/dev/shm").glob(f"{prefix}withdrawn_*"))


def test_a_timeout_of_the_request_is_honoured(client):
    with pytest.raises(InferenceServerException) as caught:
        client.ids("def hello(", 2000, n=16, call={"timeout": 50_000})
    assert "timeout" in caught.value.message().lower()


def test_the_metadata_tells_the_models_apart(client):
    unary, stream = (client.grpc.get_model_metadata(name, as_json=True) for name in (UNARY, STREAM))
    assert [item["name"] for item in unary["inputs"]] == [item["name"] for item in stream["inputs"]]
    assert {item["name"] for item in stream["outputs"]} - {item["name"] for item in unary["outputs"]} == {
        "row_index", "row_final",
    }  # fmt: skip
    config = client.grpc.get_model_config(STREAM, as_json=True)["config"]
    assert config["model_transaction_policy"]["decoupled"]


def test_the_server_listens_on_loopback_only(triton):
    family = [psutil.Process(triton.pid), *psutil.Process(triton.pid).children(recursive=True)]
    listening = [c.laddr for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {port for _, port in listening} >= {int(a.rpartition(":")[2]) for a in (triton.http, triton.grpc)}
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_each_model_is_loaded_once_a_start(triton):
    log = triton.log.read_text()
    for name in (UNARY, STREAM):
        loaded = log.count(f"successfully loaded '{name}'")
        assert log.count(f"ModelInstanceInitialize: {name}_0_0") == loaded > 0


def test_tokens_come_with_their_log_probabilities(client):
    answer, length = client.infer("if __name__ ==", 8)
    log_probs = answer.as_numpy("output_log_probs")[0, 0]
    assert (log_probs < 0).all()
    assert answer.as_numpy("cum_log_probs")[0, 0] == pytest.approx(log_probs.sum(), abs=1e-4)
    assert np.array_equal(
        answer.as_numpy("output_ids")[0, 0, :length], client.tokenizer.encode("if __name__ ==").ids
    )


def test_a_killed_server_starts_again_on_its_ports_and_leaves_no_memory(triton, client):
    from serving.tritonserver import sweep

    expected = client.ids("def hello(", 8)
    triton.kill()
    assert not triton.is_ready()
    assert sweep(int(triton.grpc.rpartition(":")[2])) == 0
    triton.start()
    other = Client(triton)
    assert other.ids("def hello(", 8) == expected
