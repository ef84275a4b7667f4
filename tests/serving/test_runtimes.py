"""Every runtime behind the scheduler, on the real tiny model."""

import threading

import numpy as np
import pytest

from serving.backend.requests import BadRequestError, SamplingParams
from serving.backend.scheduler import CancelledError
from testing import needs
from testing.servers.triton import TINY
from testing.until import until
from tests.serving import reference
from tests.serving.local import PROMPTS, SAMPLED, TOKENIZER, bench, until_stopped

RUNTIMES = [("ctranslate2", "int8"), ("llama_cpp", "Q8_0"), ("onnxruntime", "int8")]
NEEDS = {"ctranslate2": "ctranslate2", "llama_cpp": "xllamacpp", "onnxruntime": "onnxruntime"}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(params=RUNTIMES, ids=[name for name, _ in RUNTIMES])
def engine(request, work):
    name, precision = request.param
    needs.package(NEEDS[name])
    with bench(work, name, precision) as found:
        yield found


def test_greedy_text_is_the_same_alone_and_in_any_batch(engine):
    alone = [engine.run(prompt) for prompt in PROMPTS]
    for order in (PROMPTS, PROMPTS[::-1], PROMPTS[3:] + PROMPTS[:3]):
        requests = {prompt: engine.submit(prompt) for prompt in order}
        assert [engine.wait(requests[prompt]) for prompt in PROMPTS] == alone


def test_greedy_text_with_a_repetition_penalty_is_the_same_alone_and_in_any_batch(engine):
    params = SamplingParams(repetition_penalty=1.3)
    alone = [engine.run(prompt, params=params) for prompt in PROMPTS]
    requests = [engine.submit(prompt, params=params) for prompt in PROMPTS]
    assert [engine.wait(request) for request in requests] == alone


def test_rows_of_different_lengths_each_get_what_they_asked_for(engine):
    limits = {prompt: 4 * index for index, prompt in enumerate(PROMPTS)}
    requests = {prompt: engine.submit(prompt, limit=limit) for prompt, limit in limits.items()}
    for prompt, limit in limits.items():
        (ids,) = engine.wait(requests[prompt])
        # Whether a text ends by itself before that depends on the processor.
        assert len(ids) == limit or ids[-1] == engine.runtime.eos_id
        assert engine.run(prompt, limit=limit) == [ids]


@pytest.mark.parametrize("prompt", ["x", [315, 568], "def hello(", PROMPTS[2]])
def test_a_seed_gives_the_same_text_whatever_else_runs(engine, prompt):
    first = engine.run(prompt, n=3, seed=7, params=SAMPLED)
    noise = [engine.submit(other, n=2, seed=k, params=SAMPLED) for k, other in enumerate(PROMPTS)]
    again = [engine.submit(prompt, n=3, seed=7, params=SAMPLED) for _ in range(4)]
    assert [engine.wait(request) for request in again] == [first] * 4
    for request in noise:
        engine.wait(request)


def test_different_seeds_and_rows_give_different_text(engine):
    texts = {
        tuple(ids) for seed in (1, 100, 200) for ids in engine.run("def", n=3, seed=seed, params=SAMPLED)
    }
    assert len(texts) == 9


def test_a_seeded_row_is_as_long_as_it_was_asked_to_be(engine):
    for limit in (1, 2, 40):
        ids = engine.run("def hello(", n=2, seed=3, limit=limit, params=SAMPLED)
        assert all(len(row) == limit or row[-1] == 0 for row in ids)


def test_unseeded_sampling_varies(engine):
    texts = {tuple(engine.run("def", params=SAMPLED)[0]) for _ in range(5)}
    assert len(texts) > 1


def test_a_stop_word_ends_the_row_early_and_is_part_of_it(engine):
    (free,) = engine.run("if __name__ ==")
    word = tuple(free[3:5])
    (ids,) = engine.run("if __name__ ==", stop=((1, 2, 3), word))
    assert ids == free[:5]


def test_another_end_token_ends_the_row(engine):
    (free,) = engine.run("if __name__ ==")
    (ended,) = engine.run("if __name__ ==", params=SamplingParams(end_id=free[4]))
    assert ended == free[: free.index(free[4]) + 1]


def test_a_forbidden_word_is_never_generated(engine):
    (free,) = engine.run("if __name__ ==")
    (other,) = engine.run("if __name__ ==", params=SamplingParams(bad_words=((free[0],),)))
    assert free[0] not in other


def test_log_probabilities_are_those_of_the_model(engine):
    request = engine.submit("if __name__ ==", limit=8)
    (ids,) = engine.wait(request)
    prompt = TOKENIZER.encode("if __name__ ==").ids
    expected = reference.codegen_log_probs(TINY, prompt + ids)[np.arange(len(ids)) + len(prompt) - 1, ids]
    assert np.abs(np.array(request.rows[0].log_probs) - expected).max() < 0.5


def test_a_client_that_goes_away_stops_the_work(engine):
    request = engine.submit("def hello(", limit=1900, on_push=until_stopped)
    (row,) = request.rows
    until(lambda: row.ids)
    request.reply.gone = True
    with pytest.raises(CancelledError, match="client cancelled"):
        engine.wait(request)
    until(lambda: row.finished)
    # What was on its way when the client was missed, and no more.
    assert row.pushed < 10
    assert len(row.ids) == 1


def test_a_timeout_stops_the_work(engine):
    with pytest.raises(CancelledError, match="timeout has passed"):
        engine.run("def hello(", limit=2000, timeout_s=0.05, on_push=until_stopped)


def test_several_long_requests_advance_at_the_same_time(engine):
    submitted, order = threading.Event(), []

    def note(row):
        assert submitted.wait(60)
        order.append(row.prompt[0])

    endless = SamplingParams(bad_words=((engine.runtime.eos_id,),))
    requests = [engine.submit(prompt, limit=600, params=endless, on_push=note) for prompt in PROMPTS[:2]]
    submitted.set()
    for request in requests:
        engine.wait(request)
    first, second = (request.rows[0].prompt[0] for request in requests)
    assert order.index(second) < len(order) - 1 - order[::-1].index(first), "one ended before the other began"
    assert order.index(first) < len(order) - 1 - order[::-1].index(second)


def test_what_the_runtime_refuses_fails_alone(engine):
    good = engine.submit("def hello(")
    bad = engine.submit([5_000_000], params=SamplingParams())
    other = engine.submit("class")
    assert engine.wait(good)
    assert engine.wait(other)
    with pytest.raises((BadRequestError, IndexError, RuntimeError)):
        engine.wait(bad)


def test_both_runtimes_agree_in_full_precision(work):
    needs.package("ctranslate2")
    needs.package("xllamacpp")
    found = {}
    for name, precision in (("ctranslate2", "float32"), ("llama_cpp", "F32")):
        with bench(work, name, precision) as engine:
            requests = [engine.submit(prompt) for prompt in PROMPTS]
            found[name] = [engine.wait(request) for request in requests]
    same = sum(a == b for a, b in zip(found["ctranslate2"], found["llama_cpp"], strict=True))
    # A tie broken the other way changes all that follows, so not every text must agree; most do.
    assert same >= len(PROMPTS) - 1


def test_closing_answers_what_still_runs(work):
    needs.package("ctranslate2")
    with bench(work, "ctranslate2", "int8", parallel=1) as engine:
        options = {"limit": 1500, "params": SAMPLED, "on_push": until_stopped}
        requests = [engine.submit("def hello(", seed=seed, **options) for seed in range(4)]
        until(lambda: any(request.rows[0].ids for request in requests))
        engine.scheduler.close()
        for request in requests:
            with pytest.raises(CancelledError, match="shutting down"):
                engine.wait(request)
