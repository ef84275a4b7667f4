"""Log probabilities of a given text: by each runtime, and through the real server."""

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from serving.backend.requests import BadRequestError, SamplingParams
from serving.model_repository import Repository, generate
from testing import needs
from testing.servers.triton import TINY
from testing.triton_inputs import inputs
from tests.serving import reference
from tests.serving.client import STREAM, UNARY, Client, tensors
from tests.serving.local import PROMPTS, TOKENIZER, Bench, bench

NEEDS = {"ctranslate2": "ctranslate2", "llama_cpp": "xllamacpp", "onnxruntime": "onnxruntime"}
# onnxruntime has 8-bit weights only.
TOLERANCE = {"ctranslate2": 0.02, "llama_cpp": 0.02, "onnxruntime": 0.5}
RUNTIMES = [("ctranslate2", "float32"), ("llama_cpp", "F32"), ("onnxruntime", "int8")]
SCORE = SamplingParams(score=True)
TEXT = "def hello(name):\n    print('hi', name)\n    return None\n"


@pytest.fixture(scope="module", params=RUNTIMES, ids=lambda p: p[0])
def engine(request, tmp_path_factory):
    name, precision = request.param
    needs.package(NEEDS[name])
    with bench(tmp_path_factory.mktemp("models"), name, precision) as found:
        found.tolerance = TOLERANCE[name]
        yield found


def expected(ids: list[int]) -> np.ndarray:
    """Return the reference's log probabilities of every token but the first."""
    return reference.codegen_log_probs(TINY, ids)[np.arange(len(ids) - 1), ids[1:]]


def scored(engine: Bench, prompt, **options):
    return engine.submit(prompt, limit=0, params=SCORE, **options)


def test_scores_are_the_models_log_probabilities(engine):
    requests = [scored(engine, text) for text in (TEXT, *PROMPTS)]
    for request, text in zip(requests, (TEXT, *PROMPTS), strict=True):
        assert engine.wait(request) == [[]], "nothing is generated"
        np.testing.assert_allclose(
            request.rows[0].log_probs, expected(TOKENIZER.encode(text).ids), atol=engine.tolerance, rtol=0
        )


def test_only_what_follows_the_prompt_is_scored(engine):
    request = engine.request(TEXT, limit=0, params=SCORE)
    request.rows[0].score_from = 7
    engine.scheduler.submit(request)
    engine.wait(request)
    np.testing.assert_allclose(
        request.rows[0].log_probs, expected(TOKENIZER.encode(TEXT).ids)[6:], atol=engine.tolerance, rtol=0
    )


def test_completions_and_scores_do_not_change_each_other(engine):
    alone = engine.run("def hello(")
    work = [
        scored(engine, TEXT),
        engine.submit("def hello("),
        scored(engine, "x = 1"),
        engine.submit("def hello("),
    ]
    assert [engine.wait(request) for request in work] == [[[]], alone, [[]], alone]


def test_a_long_text_is_scored_within_the_memory_of_one(engine):
    ids = (TOKENIZER.encode(TEXT).ids * 30)[:400]
    requests = [scored(engine, ids) for _ in range(3)]
    for request in requests:
        engine.wait(request)
        assert len(request.rows[0].log_probs) == 399


def test_a_runtime_that_cannot_score_says_so():
    class Generates:
        vocabulary_size, eos_id, parallel, max_rows = 10, 0, 1, 4

        def close(self) -> None: ...

    engine = Bench(Generates())
    try:
        with pytest.raises(
            BadRequestError, match="cannot score prompt tokens: serve the model with ctranslate2"
        ):
            engine.wait(scored(engine, [1, 2]))
    finally:
        engine.close()


def test_the_repository_tells_which_model_scores(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").touch()
    described = Repository(
        model_dir=tmp_path / "model", runtime="ctranslate2", precision="int8", context_length=64
    )
    generate(tmp_path / "repository", described)
    configs = {
        name: (tmp_path / "repository" / name / "config.pbtxt").read_text() for name in (UNARY, STREAM)
    }
    assert 'key: "scores"' in configs[UNARY]
    assert 'key: "scores"' not in configs[STREAM]


@pytest.fixture
def client(triton):
    found = Client(triton)
    yield found
    found.grpc.close()


def ask(client, ids, score_from, *, limit=0, model=UNARY, n=1):
    arrays = inputs(tensors(ids, limit, n=n))
    return client.grpc.infer(model, arrays, parameters={"score_from": score_from})


@pytest.mark.triton
def test_the_server_scores_every_row_of_a_request(client):
    ids = TOKENIZER.encode(TEXT).ids
    answer = ask(client, ids, 5, n=2)
    assert answer.as_numpy("output_log_probs").shape == (2, 1, len(ids) - 5)
    assert answer.as_numpy("output_ids").shape == (2, 1, len(ids))
    # The model served here has 8-bit weights.
    for row in answer.as_numpy("output_log_probs")[:, 0]:
        assert np.abs(row - expected(ids)[4:]).mean() < 0.2
    np.testing.assert_allclose(
        answer.as_numpy("cum_log_probs")[:, 0], answer.as_numpy("output_log_probs").sum((1, 2)), rtol=1e-5
    )


@pytest.mark.triton
def test_a_token_with_nothing_before_it_has_no_score(client):
    answer = ask(client, [5], 1)
    assert answer.as_numpy("output_log_probs").shape == (1, 1, 0)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("score_from", "limit", "message"),
    [
        (0, 0, "from 1 .token 0 has no context."),
        (4, 0, "the prompt's 3 tokens"),
        (1, 5, "the value must be 0"),
    ],
)
def test_a_request_that_cannot_be_scored_says_why(client, score_from, limit, message):
    with pytest.raises(InferenceServerException, match=message) as refused:
        ask(client, [5, 6, 7], score_from, limit=limit)
    assert "INVALID_ARGUMENT" in str(refused.value.status())
