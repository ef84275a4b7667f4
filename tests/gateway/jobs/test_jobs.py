"""Jobs from the request to the results: real Redis, real worker, real Triton."""

import httpx
import numpy as np
import pytest

from testing.ports import free_ports
from testing.servers.gateway_process import MODEL_DIR
from tests.gateway.jobs.conftest import JOBS, long_job, make_queue, scores
from tests.serving import reference

pytestmark = [pytest.mark.triton, pytest.mark.redis]
TEXT = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def stage(tmp_path_factory, triton):
    found = make_queue(tmp_path_factory.mktemp("jobs"), triton)
    try:
        found.process = found.gateway(jobs_max_items=40, jobs_max_per_key=30, jobs_max_bytes=20_000)
        (found.port,) = free_ports(1)
        found.back = found.worker(jobs_metrics_port=found.port)
        yield found
    finally:
        found.stop()


@pytest.fixture
def alice(stage):
    return stage.client(stage.process)


@pytest.fixture
def bob(stage):
    return stage.client(stage.process, "bob")


def test_texts_are_scored_with_the_models_log_probabilities(alice):
    found = alice.finished(alice.submit(scores(TEXT, "x = 1\n", prompt="# code\n")))
    assert found["status"] == "succeeded"
    assert found["items"] == {"total": 2, "done": 2}
    first = found["results"][0]
    assert "".join(first["tokens"]) == TEXT
    ids = _encode("# code\n") + _encode(TEXT)
    expected = reference.codegen_log_probs(MODEL_DIR, ids)[np.arange(len(ids) - 1), ids[1:]]
    expected = expected[-len(first["tokens"]) :]
    # The model served here has 8-bit weights; the reference has the original ones.
    assert np.abs(np.array(first["token_logprobs"]) - expected).mean() < 0.2
    assert first["sum_logprob"] == pytest.approx(sum(first["token_logprobs"]))


def _encode(text):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json")).encode(text).ids


def test_a_text_without_a_prompt_is_scored_as_an_echoed_one(alice):
    result = alice.finished(alice.submit(scores(TEXT)))["results"][0]
    echoed = {"prompt": TEXT, "echo": True, "logprobs": 0, "max_tokens": 0}
    choice = alice.http.post("/v1/completions", json=echoed).json()["choices"][0]
    assert result["token_logprobs"] == choice["logprobs"]["token_logprobs"]
    assert result["token_logprobs"][0] is None


def test_a_batch_is_completed_as_the_completions_endpoint_would(alice):
    request = {"prompt": ["def hello(", "import os\n", "class A"], "max_tokens": 8, "temperature": 0}
    found = alice.finished(alice.submit({"type": "completion", "request": request}))
    assert [result["index"] for result in found["results"]] == [0, 1, 2]
    direct = alice.http.post("/v1/completions", json=request).json()["choices"]
    assert [one["choices"][0]["text"] for one in found["results"]] == [one["text"] for one in direct]


def test_an_item_that_cannot_be_done_fails_alone(alice):
    found = alice.finished(alice.submit(scores("a = 1 \n" * 1500, "b = 2")))
    assert found["status"] == "succeeded"
    assert found["results"][0]["error"]["code"] == "context_length_exceeded"
    assert "split the text" in found["results"][0]["error"]["message"]
    assert found["results"][1]["tokens"]


def test_jobs_are_listed_newest_first_without_results(alice):
    ids = [alice.submit(scores("a")) for _ in range(2)]
    listed = alice.http.get(JOBS).json()
    assert listed["object"] == "list"
    assert [job["id"] for job in listed["data"]][:2] == ids[::-1]
    assert "results" not in listed["data"][0]


def test_a_job_is_nobody_elses(alice, bob):
    job_id = alice.submit(scores(TEXT))
    alice.finished(job_id)
    never_was = bob.http.get(f"{JOBS}/job_{'0' * 24}")
    for answer in (
        bob.http.get(f"{JOBS}/{job_id}"),
        bob.http.post(f"{JOBS}/{job_id}/cancel"),
        bob.http.delete(f"{JOBS}/{job_id}"),
    ):
        assert answer.status_code == never_was.status_code == 404
        assert answer.text.replace(job_id, "") == never_was.text.replace(f"job_{'0' * 24}", "")
    assert job_id not in bob.http.get(JOBS).text
    assert alice.get(job_id)["status"] == "succeeded"


def test_a_running_job_can_be_cancelled_and_keeps_what_it_has(alice):
    job_id = alice.submit(long_job())
    alice.until(job_id, lambda found: found["status"] == "running" and found["items"]["done"])
    assert alice.http.post(f"{JOBS}/{job_id}/cancel").json()["status"] in {"cancelling", "cancelled"}
    found = alice.finished(job_id)
    assert found["status"] == "cancelled"
    assert 0 < len(found["results"]) < 16


def test_a_waiting_job_that_is_cancelled_never_runs(alice):
    first, second = alice.submit(long_job()), alice.submit(scores("x"))
    assert alice.http.post(f"{JOBS}/{second}/cancel").json()["status"] == "cancelled"
    alice.http.post(f"{JOBS}/{first}/cancel")
    last = alice.submit(scores("y"))
    assert alice.finished(last)["status"] == "succeeded"
    assert alice.get(second)["items"]["done"] == 0


def test_a_removed_job_leaves_nothing_behind(alice, stage):
    job_id = alice.submit(long_job())
    alice.until(job_id, lambda found: found["status"] == "running")
    assert alice.http.delete(f"{JOBS}/{job_id}").json() == {"id": job_id, "object": "job", "deleted": True}
    assert alice.http.get(f"{JOBS}/{job_id}").status_code == 404
    # The worker is free again, and what it still had to write found no place.
    assert alice.finished(alice.submit(scores("x")))["status"] == "succeeded"
    assert not [key for key in stage.redis.admin().keys("*") if job_id.encode() in key]


def test_what_was_asked_is_forgotten_with_the_last_need_for_it(alice, stage):
    canary = "canary_41d5"
    job_id = alice.submit(scores(f"{canary} = 1"))
    alice.finished(job_id)
    record = stage.redis.admin().hgetall(f"assist:jobs:jobs:job:{job_id}")
    assert b"request" not in record
    assert stage.redis.admin().ttl(f"assist:jobs:jobs:job:{job_id}") > 0
    assert stage.redis.admin().ttl(f"assist:jobs:jobs:results:{job_id}") > 0
    logs = stage.back.log.read_text() + stage.process.log.read_text()
    assert job_id in logs
    assert canary not in logs


def test_a_key_is_needed(stage):
    assert httpx.get(stage.process.url + JOBS).status_code == 401


def test_the_gateway_and_the_worker_count(stage, alice):
    alice.finished(alice.submit(scores("x")))
    assert stage.process.metric('assist_jobs_taken_total{type="score"}') >= 1
    assert stage.process.metric("assist_jobs_redis_up") == 1
    assert (
        "assist_jobs_open"
        in httpx.get(f"http://127.0.0.1:{stage.process.metrics_port}/metrics", trust_env=False).text
    )
    with httpx.Client(trust_env=False) as client:
        counted = client.get(f"http://127.0.0.1:{stage.port}/metrics").text
    assert 'assist_jobs_ended_total{status="succeeded"}' in counted
    assert 'assist_jobs_items_total{outcome="done"}' in counted
