"""One worker and one job: a real Redis, and a scripted engine."""

import asyncio
import json
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway import wiring
from gateway.engine.base import TokenChunk
from gateway.engine.chunks import collect, expiry, until_expiry
from gateway.errors import bad_gateway, invalid
from gateway.jobs.models import JobRecord, new_id
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.worker.metrics import WorkerMetrics
from gateway.worker.runner import Runner
from testing import needs
from testing.doubles.instant_engine import InstantEngine
from testing.servers.gateway_process import MODEL_DIR
from testing.servers.redis_server import RedisServer
from testing.until import until_async

pytestmark = pytest.mark.redis
ITEMS = {"items": [{"prompt": "", "text": f"x = {at}"} for at in range(6)]}


class ScriptedEngine(InstantEngine):
    """Takes ``seconds`` for each score, and raises what ``failures`` holds first."""

    def __init__(self, seconds=0.0, failures=()):
        self.seconds, self.failures, self.calls = seconds, list(failures), 0

    async def score(self, job):
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        return await super().score(job)


class HeldEngine(InstantEngine):
    """Generates two tokens of a completion and then no more."""

    async def _held(self):
        for _ in range(2):
            yield TokenChunk(0, [64])
        await asyncio.Event().wait()

    async def complete(self, request):
        return await collect(until_expiry(self._held(), 1, expiry(request.deadline_s)), request)


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    needs.program("redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


class Bench:
    """A store, and runners over it as if they were workers."""

    def __init__(self, url, **changes):
        self.settings = Settings(
            **{"auth": "none", "metrics_port": None, "model_dir": MODEL_DIR, "jobs_redis_url": url,
               "jobs_concurrency": 1, "jobs_lease_s": 2, "jobs_max_runtime_s": 60, **changes}
        )  # fmt: skip
        self.store = JobStore(self.settings)
        self.stop = False

    def runner(self, engine, name="worker"):
        parts = wiring.build(self.settings, engine)
        return Runner(parts, self.store, WorkerMetrics(), name, lambda: self.stop)

    async def job(self, request=ITEMS, kind="score"):
        record = JobRecord(id=new_id(), owner="a", kind=kind, status="queued", items=6, created=time.time())
        assert await self.store.create(record, request) == "ok"
        assert await self.store.accept(record.id)
        return record.id

    async def until(self, condition):
        """Wait until an awaited condition holds."""
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110  -- what is in Redis sets no event here
                await asyncio.sleep(0.02)

    async def running(self, job_id):
        return await self.status(job_id) == "running"

    async def status(self, job_id):
        found = await self.store.get(job_id)
        return found and found.status


@pytest.fixture
async def bench(redis):
    made = []

    def make(**changes):
        made.append(Bench(redis.url, **changes))
        return made[-1]

    yield make
    for each in made:
        await each.store.close()


async def test_a_job_that_takes_too_long_fails_and_keeps_what_it_has(bench):
    stage = bench(jobs_max_runtime_s=2)
    job_id = await stage.job()
    engine = ScriptedEngine()
    running = asyncio.create_task(stage.runner(engine).run(job_id, 1))
    # From the second item on it takes longer than any job may.
    await until_async(lambda: engine.calls, pause_s=0)
    engine.seconds = 300
    assert await running
    found = await stage.store.get(job_id)
    assert found.status == "failed"
    assert "longer than 2 s" in found.error
    assert 0 < await stage.store.count_finished(job_id) < 6


async def test_an_item_that_the_jobs_time_ends_has_what_there_is(bench):
    stage = bench(jobs_max_runtime_s=4)
    job_id = await stage.job({"prompt": "x = ", "max_tokens": 50}, "completion")
    assert await stage.runner(HeldEngine()).run(job_id, 1)
    result = json.loads((await stage.store.results(job_id))[0])
    assert (result["ended_by"], result["choices"][0]["finish_reason"]) == ("deadline", "length")
    assert result["usage"]["completion_tokens"] == 2


async def test_a_worker_that_was_given_up_for_dead_lets_go_when_it_comes_back(bench):
    stage = bench()
    job_id = await stage.job()
    slow = asyncio.create_task(stage.runner(ScriptedEngine(seconds=30), "first").run(job_id, 1))
    await stage.until(lambda: stage.running(job_id))
    assert await stage.runner(ScriptedEngine(), "second").run(job_id, 2)
    assert await slow
    assert await stage.status(job_id) == "succeeded"
    assert await stage.store.count_finished(job_id) == 6


async def test_a_message_that_comes_twice_does_not_run_twice(bench):
    stage = bench(jobs_lease_s=60)
    job_id = await stage.job()
    slow = asyncio.create_task(stage.runner(ScriptedEngine(seconds=0.3), "first").run(job_id, 1))
    await stage.until(lambda: stage.running(job_id))
    second = ScriptedEngine()
    assert await stage.runner(second, "second").run(job_id, 1)
    assert await slow
    assert await stage.runner(second, "third").run(job_id, 1)
    assert second.calls == 0


async def test_what_the_engine_fails_at_again_and_again_is_that_items_error(bench):
    stage = bench()
    job_id = await stage.job()
    engine = ScriptedEngine(failures=[bad_gateway("broken")] * 3 + [invalid("no"), bad_gateway("once")])
    assert await stage.runner(engine).run(job_id, 1)
    results = await stage.store.results(job_id)
    assert b"broken" in results[0]
    assert b'"no"' in results[1]
    assert all(b"error" not in results[at] for at in range(2, 6))
    assert await stage.status(job_id) == "succeeded"


async def test_a_bug_fails_the_job_and_tells_nobody_its_text(bench, caplog):
    stage = bench()
    job_id = await stage.job()
    assert await stage.runner(ScriptedEngine(failures=[RuntimeError("x = 0 canary")])).run(job_id, 1)
    found = await stage.store.get(job_id)
    assert found.status == "failed"
    assert '"internal"' in found.error
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text + found.error


async def test_a_worker_that_is_to_end_gives_its_job_back_without_counting_an_attempt(bench):
    stage = bench()
    job_id = await stage.job()
    running = asyncio.create_task(stage.runner(ScriptedEngine(seconds=0.5)).run(job_id, 1))
    await stage.until(lambda: stage.store.count_finished(job_id))
    stage.stop = True
    assert not await running
    found = await stage.store.get(job_id)
    assert (found.status, found.attempts) == ("queued", 0)


async def test_a_redis_that_is_away_for_a_moment_costs_no_result(bench, monkeypatch):
    stage = bench()
    job_id = await stage.job()
    write, failures = stage.store.add_result, [RedisConnectionError("away")] * 3

    async def add_result(*arguments):
        if failures:
            raise failures.pop()
        await write(*arguments)

    monkeypatch.setattr(stage.store, "add_result", add_result)
    engine = ScriptedEngine()
    assert await stage.runner(engine).run(job_id, 1)
    assert await stage.store.count_finished(job_id) == engine.calls == 6


async def test_a_job_that_was_cancelled_while_its_worker_was_dead_ends_there(bench):
    stage = bench()
    job_id = await stage.job()
    assert await stage.store.start(job_id, 1, "dead") == "run"
    assert await stage.store.cancel(job_id, "a") == "cancelling"
    engine = ScriptedEngine()
    assert await stage.runner(engine).run(job_id, 2)
    assert await stage.status(job_id) == "cancelled"
    assert engine.calls == 0
