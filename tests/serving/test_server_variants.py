"""Servers that are set up otherwise: another runtime, a short queue, a broken model, a signal."""

import re
import threading

import httpx
import pytest
from tritonclient.utils import InferenceServerException

from serving.convert import convert
from serving.model_repository import Repository, generate
from testing import needs
from testing.servers.triton import TINY, Triton, require_triton
from testing.until import until
from tests.serving import reference
from tests.serving.client import Client
from tests.serving.local import PROMPTS, TOKENIZER

pytestmark = pytest.mark.triton


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a server over a model directory."""
    require_triton()
    started = []

    def start(model_dir, runtime="ctranslate2", precision="int8", **options):
        described = Repository(
            model_dir=model_dir, runtime=runtime, precision=precision, context_length=2048, **options
        )
        generate(tmp_path / "repository", described)
        server = Triton(tmp_path / "repository", model_dir, tmp_path / "triton.log")
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.mark.parametrize(
    ("runtime", "precision", "package", "lock"),
    [("llama_cpp", "Q8_0", "xllamacpp", "llamacpp.txt"), ("onnxruntime", "int8", "onnxruntime", "onnx.txt")],
    ids=["llama_cpp", "onnxruntime"],
)
def test_another_runtime_serves_the_same_interface(serve, tmp_path, runtime, precision, package, lock):
    needs.package(package)
    model_dir = tmp_path / "converted"
    model_dir.mkdir()
    convert(TINY, model_dir, runtime, precision)
    client = Client(serve(model_dir, runtime, precision))
    assert reference.regret(TINY, TOKENIZER.encode(PROMPTS[-1]).ids, client.ids(PROMPTS[-1], 8)[0]) < 1
    whole = client.ids("def hello(", 40, n=2, temperature=0.9, seed=5)
    assert client.ids("def hello(", 40, n=2, temperature=0.9, seed=5) == whole
    parts = client.stream("def hello(", 40, n=2, temperature=0.9, seed=5)
    assert [[i for row, ids, *_ in parts if row == k for i in ids] for k in range(2)] == whole
    with pytest.raises(InferenceServerException, match="context length"):
        client.ids("x", 4000)


def test_llama_cpps_counters_are_on_the_metrics_port(serve, tmp_path):
    needs.package("xllamacpp")
    model_dir = tmp_path / "converted"
    model_dir.mkdir()
    convert(TINY, model_dir, "llama_cpp", "Q8_0")
    server = serve(model_dir, "llama_cpp", "Q8_0")
    prompt = TOKENIZER.encode("def hello(").ids
    Client(server).ids("def hello(", 8)

    def counted(name: str) -> float:
        text = httpx.get(f"http://{server.metrics}/metrics", timeout=60).text
        found = re.search(rf"^llamacpp:{name}{{.*}} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    until(lambda: counted("prompt_tokens_total") == len(prompt))
    until(lambda: 1 <= counted("tokens_predicted_total") <= 8)


def test_a_full_queue_refuses_at_once(serve, tiny_int8):
    server = serve(tiny_int8, max_queue_size=1, max_batch_size=1)
    outcomes = []

    def one():
        try:
            outcomes.append(len(Client(server).ids("def hello(", 600)[0]))
        except InferenceServerException as error:
            outcomes.append(error.status())

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert "StatusCode.UNAVAILABLE" in outcomes
    assert any(isinstance(outcome, int) for outcome in outcomes)


def test_a_signal_ends_the_server_in_order(serve, tiny_int8):
    server = serve(tiny_int8)
    assert server.stop() == 0


def test_a_model_that_cannot_be_loaded_stops_the_server_with_the_reason(serve, tmp_path, tiny_int8):
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "vocabulary.json", "tokenizer.json"):
        (broken / name).write_bytes((tiny_int8 / name).read_bytes())
    (broken / "model.bin").write_bytes(b"no model")
    with pytest.raises(pytest.fail.Exception, match="did not become ready"):
        serve(broken)
