"""Failures that lose no accepted job: killed workers, a rebooted Redis, a full disk."""

import resource
import threading
import time

import httpx
import pytest

from tests.gateway.jobs.conftest import JOBS, WAIT_S, long_job, scores

pytestmark = [pytest.mark.triton, pytest.mark.redis]


def under_way(client, job_id):
    """Wait until the job has a result and lacks others."""
    found = client.until(job_id, lambda job: job["status"] == "running" and job["items"]["done"])
    assert found["items"]["done"] < found["items"]["total"]
    return found


def complete(found):
    """Return whether every item of a finished job has its result, once; a sampled text may be empty."""
    return found["status"] == "succeeded" and [
        result["index"] for result in found["results"] if result["choices"][0]["finish_reason"]
    ] == list(range(found["items"]["total"]))


def test_a_job_whose_worker_is_killed_is_finished_by_another(queue):
    client, worker = queue.front(), queue.worker()
    job_id = client.submit(long_job())
    before = under_way(client, job_id)["results"]
    worker.kill()
    queue.worker()
    found = client.finished(job_id)
    assert complete(found)
    texts = {result["index"]: result["choices"] for result in found["results"]}
    assert all(texts[result["index"]] == result["choices"] for result in before), "done items were done again"


def test_a_worker_that_is_told_to_stop_gives_its_job_back(queue):
    client, worker = queue.front(), queue.worker()
    job_id = client.submit(long_job())
    under_way(client, job_id)
    assert worker.stop() == 0
    assert client.get(job_id)["status"] == "queued"
    queue.worker()
    assert complete(client.finished(job_id))


def test_jobs_survive_a_reboot_of_redis(queue):
    client, _ = queue.front(), queue.worker()
    ids = [client.submit(long_job(8)), client.submit(scores("x = 1")), client.submit(scores("y = 2"))]
    under_way(client, ids[0])
    queue.redis.stop()
    for answer in (client.http.post(JOBS, json=scores("x")), client.http.get(f"{JOBS}/{ids[0]}")):
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["code"] == "queue_unavailable"
    queue.start_redis()
    assert [client.finished(job_id)["status"] for job_id in ids] == ["succeeded"] * 3
    assert len(client.http.get(JOBS).json()["data"]) == 3


def limit_files(queue, size: int) -> None:
    """Limit Redis's files to ``size`` bytes: appends then fail as on a full disk."""
    pid = queue.redis._process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_refuses_new_jobs_and_loses_none(queue):
    client, worker = queue.front(), queue.worker()
    job_id = client.submit(long_job())
    under_way(client, job_id)
    size = sum(file.stat().st_size for file in (queue.folder / "appendonlydir").glob("*.incr.aof"))
    limit_files(queue, size)
    end = time.monotonic() + WAIT_S
    while (refused := client.http.post(JOBS, json=scores("x"))).status_code == 202:
        assert time.monotonic() < end, "the disk never became full"
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert client.get(job_id)["id"] == job_id, "what is stored can be read"
    taken = {job["id"] for job in client.http.get(JOBS).json()["data"]}
    limit_files(queue, resource.RLIM_INFINITY)
    for each in taken - {job_id}:
        client.finished(each)
    assert complete(client.finished(job_id))
    assert worker.stop() == 0


def test_a_job_waits_for_an_engine_that_is_away(queue):
    client, triton = queue.front(), queue.triton
    triton.kill()
    try:
        queue.worker()
        job_id = client.submit(scores("x = 1"))
        # Longer than the worker waits before it gives the job back.
        client.until(job_id, lambda job: job["status"] == "running")
        client.until(job_id, lambda job: job["status"] == "queued")
    finally:
        triton.start()
    assert client.finished(job_id)["status"] == "succeeded"
    assert client.get(job_id)["results"][0]["tokens"]


def test_a_job_whose_message_is_lost_is_delivered_again(queue):
    client = queue.front()
    lost, poison = client.submit(scores("x = 1")), client.submit(scores("y = 2"))
    redis = queue.redis.admin()
    # It has taken three workers along already.
    redis.hset(f"assist:jobs:jobs:job:{poison}", "attempts", 3)
    assert redis.delete("assist:jobs:jobs:jobs") == 1
    queue.worker()
    assert client.finished(lost)["status"] == "succeeded"
    found = client.finished(poison)
    assert found["status"] == "failed"
    assert found["error"]["code"] == "worker_lost"


def test_a_redis_that_hangs_holds_up_no_other_request(queue):
    client = queue.front()
    job_id = client.submit(scores("x"))
    queue.redis.pause()
    try:
        answers: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(client.http.post(JOBS, json=scores("y"))))
        waiting.start()
        assert client.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 2}).status_code == 200
        assert not answers, "the job was answered before the completion that came after it"
        waiting.join(WAIT_S)
        assert answers[0].status_code == 503
    finally:
        queue.redis.resume()
    assert client.get(job_id)["status"] == "queued"
