"""What the gateway accepts, refuses and deletes, without a worker: a real Redis and a gateway."""

import json
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st

from gateway.jobs.broker import make_celery
from gateway.settings import Settings
from tests.gateway.jobs.conftest import JOBS, make_queue, scores

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    nobody = SimpleNamespace(grpc="127.0.0.1:1")
    found = make_queue(tmp_path_factory.mktemp("jobs"), nobody)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def bob(stage):
    return stage.front("bob", jobs_max_items=40, jobs_max_bytes=20_000)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({}, "type: Field required"),
        ({"type": "dance"}, "type: Input should be 'score' or 'completion'"),
        ({"type": "score"}, "items is missing"),
        ({"type": "score", "items": []}, "items is missing"),
        ({"type": "score", "items": [{"text": ""}]}, "items.0.text"),
        ({"type": "score", "items": [{"text": "x"}], "request": {}}, "request belongs to type completion"),
        (scores(*["x"] * 41), "A job may hold 40 items and this has 41"),
        ({"type": "completion"}, "request is missing"),
        ({"type": "completion", "request": {"prompt": None}}, "prompt is missing"),
        ({"type": "completion", "request": {"prompt": "x", "max_tokens": -1}}, "max_tokens"),
        ({"type": "completion", "request": {"prompt": "x", "stream": True}}, "do not support streaming"),
        ({"type": "completion", "request": {"prompt": ["x"] * 41}}, "40"),
        ({"type": "completion", "request": {"prompt": ["x"] * 21, "n": 2}}, "completions"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_remedy(bob, body, part):
    answer = bob.http.post(JOBS, json=body)
    assert answer.status_code == 400
    assert part in answer.json()["error"]["message"]
    assert bob.http.get(JOBS).json()["data"] == []


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["score", "completion"]) | _ANY,
        "items": st.lists(st.fixed_dictionaries({}, optional={"prompt": _ANY, "text": _ANY}), max_size=3)
        | _ANY,
        "request": st.fixed_dictionaries({}, optional={"prompt": _ANY, "n": _ANY, "model": _ANY}) | _ANY,
    },
)


@fuzzing(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=_BODIES)
def test_whatever_is_sent_is_taken_or_refused_and_never_a_failure(bob, body):
    answer = bob.http.post(JOBS, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code in {202, 400, 404}, answer.text
    if answer.status_code == 202:
        bob.http.delete(f"{JOBS}/{answer.json()['id']}")


def test_a_job_that_is_too_large_is_refused(bob):
    answer = bob.http.post(JOBS, json=scores("x" * 30_000))
    assert answer.status_code == 413
    assert "20000 bytes" in answer.json()["error"]["message"]


def test_a_key_has_its_own_quota(stage):
    bob = stage.front("bob", jobs_max_per_key=2)
    ids = [bob.submit(scores("x")) for _ in range(2)]
    refused = bob.http.post(JOBS, json=scores("x"))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert "Delete finished jobs" in refused.json()["error"]["message"]
    assert bob.http.delete(f"{JOBS}/{ids[0]}").status_code == 200
    ids[0] = bob.submit(scores("x"))
    for job_id in ids:
        bob.http.delete(f"{JOBS}/{job_id}")


def test_a_full_queue_is_no_ones_quota(stage):
    bob = stage.front("bob", jobs_max_waiting=1)
    job_id = bob.submit(scores("x"))
    refused = bob.http.post(JOBS, json=scores("x"))
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    bob.http.delete(f"{JOBS}/{job_id}")


def test_results_expire(stage):
    bob = stage.front("bob", jobs_result_ttl_s=1)
    job_id = bob.submit(scores("x"))
    bob.http.post(f"{JOBS}/{job_id}/cancel")
    end = time.monotonic() + 60
    while bob.http.get(f"{JOBS}/{job_id}").status_code != 404:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert bob.http.get(JOBS).json()["data"] == []


def test_a_keys_requests_per_minute_count_its_jobs(stage):
    bob = stage.front("bob", default_rpm=1)
    job_id = bob.submit(scores("x"))
    assert bob.http.post(JOBS, json=scores("x")).status_code == 429
    bob.http.delete(f"{JOBS}/{job_id}")


def test_without_a_queue_the_gateway_says_what_to_do(stage):
    alice = stage.front("alice", jobs_redis_url="")
    for answer in (alice.http.get(JOBS), alice.http.post(JOBS, json=scores("x"))):
        assert answer.status_code == 404
        assert "jobs.enabled" in answer.json()["error"]["message"]


def test_two_queues_of_one_redis_know_nothing_of_each_other(stage, bob):
    other = stage.front("bob", jobs_queue="other")
    job_id = other.submit(scores("x"))
    assert bob.http.get(f"{JOBS}/{job_id}").status_code == 404
    assert bob.http.get(JOBS).json()["data"] == []
    other.http.delete(f"{JOBS}/{job_id}")


def test_celery_keeps_a_message_until_its_job_is_done_and_gives_it_back_if_not():
    given = Settings(jobs_redis_url="redis://127.0.0.1:1/0", jobs_max_runtime_s=7200)
    conf = make_celery(given, socket_timeout_s=1).conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_connection_retry_on_startup
    assert conf.broker_transport_options["visibility_timeout"] > 7200
    assert conf.task_ignore_result, "results are the records', private to a key"


def test_a_gitlab_gateway_needs_a_salt_or_nobody_finds_their_jobs_again():
    given = {"auth": "gitlab", "jobs_redis_url": "redis://127.0.0.1:1/0"}
    with pytest.raises(ValueError, match="ASSIST_CACHE_SALT"):
        Settings(**given)
    assert Settings(**given, cache_salt="salt").jobs_url == "redis://127.0.0.1:1/0"
