"""``echo`` with ``logprobs``: the prompt comes back with the model's log probabilities of it."""

import httpx
import numpy as np
import pytest

from gateway.app import create_app
from testing.servers.gateway import gateway
from tests.gateway.conftest import TINY, settings
from tests.gateway.replay import events
from tests.serving import reference

TEXT = "def add(a, b):\n    return a + b\n"
SCORING = {"prompt": TEXT, "echo": True, "logprobs": 0, "max_tokens": 0}
PATH = "/v1/completions"


@pytest.fixture(scope="module")
def http(triton):
    with (
        gateway(triton.model_dir, triton.grpc) as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        yield client


def choice(http, **changes):
    answer = http.post(PATH, json=SCORING | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


@pytest.mark.triton
def test_a_text_is_scored_without_a_completion(http, tiny):
    found = choice(http)
    assert found["text"] == TEXT
    assert found["finish_reason"] == "length"
    ids = tiny.encode(TEXT)
    expected = reference.codegen_log_probs(TINY, ids)[np.arange(len(ids) - 1), ids[1:]]
    scores = found["logprobs"]["token_logprobs"]
    assert scores[0] is None, "nothing stands before the first token"
    # The model served here has 8-bit weights; the reference has the original ones.
    assert np.abs(np.array(scores[1:]) - expected).mean() < 0.2
    assert "".join(found["logprobs"]["tokens"]) == TEXT
    assert found["logprobs"]["top_logprobs"][1] == {found["logprobs"]["tokens"][1]: scores[1]}


@pytest.mark.triton
def test_a_scored_prompt_is_followed_by_its_completion(http):
    alone = choice(http)
    found = choice(http, max_tokens=6, temperature=0)
    plain = choice(http, echo=False, max_tokens=6, temperature=0)
    count = len(alone["logprobs"]["tokens"])
    assert found["text"] == TEXT + plain["text"]
    assert found["logprobs"]["token_logprobs"][:count] == alone["logprobs"]["token_logprobs"]
    assert found["logprobs"]["token_logprobs"][count:] == plain["logprobs"]["token_logprobs"]


@pytest.mark.triton
def test_a_stream_scores_the_same(http):
    whole = choice(http, max_tokens=4, temperature=0)
    pieces = events(http.post(PATH, json=SCORING | {"max_tokens": 4, "temperature": 0, "stream": True}))
    scores = [
        value for event in pieces for one in event["choices"] for value in one["logprobs"]["token_logprobs"]
    ]
    assert scores == whole["logprobs"]["token_logprobs"]


@pytest.mark.triton
def test_every_prompt_of_a_batch_has_its_own_scores(http):
    texts = [TEXT, "x", "import os\n"]
    answer = http.post(PATH, json=SCORING | {"prompt": texts}).json()["choices"]
    assert [one["text"] for one in answer] == texts
    for one, text in zip(answer, texts, strict=True):
        alone = choice(http, prompt=text)["logprobs"]
        assert one["logprobs"]["tokens"] == alone["tokens"]
        # Another batch adds up in another order.
        assert one["logprobs"]["token_logprobs"][1:] == pytest.approx(alone["token_logprobs"][1:], abs=1e-4)


@pytest.mark.triton
def test_an_echo_without_logprobs_is_not_scored(http):
    assert choice(http, logprobs=None)["logprobs"] is None


async def test_a_model_server_that_scores_nothing_is_no_success(client):
    answer = await client.post(PATH, json=SCORING | {"max_tokens": 4})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unsupported_parameter"
    assert "Leave out echo or logprobs" in answer.json()["error"]["message"]
    plain = await client.post(PATH, json=SCORING | {"max_tokens": 4, "logprobs": None})
    assert plain.status_code == 200


async def test_an_openai_engine_scores_nothing():
    app = create_app(settings(engine="openai", engine_url="http://127.0.0.1:9/v1"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.post(PATH, json=SCORING)
    await app.state.completion_service.completer.close()
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "logprobs"
