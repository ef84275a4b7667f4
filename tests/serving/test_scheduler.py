"""Batches: who may share one, what is bounded, and that no request pays for another."""

import threading

import pytest

from serving.backend.requests import OutputRow, Request, SamplingParams
from serving.backend.scheduler import Places, split
from testing.until import until
from tests.serving.local import SAMPLED, Bench, Recorder


class ManualRuntime:
    """Notes every batch and generates a token a row when it is allowed to."""

    vocabulary_size, eos_id = 2048, 0

    def __init__(self, max_rows: int = 4, parallel: int = 1) -> None:
        self.max_rows, self.parallel = max_rows, parallel
        self.batches: list[list[OutputRow]] = []
        self.go = threading.Semaphore(0)
        self.poison: set[int] = set()

    def generate(self, rows) -> None:
        self.batches.append(list(rows))
        assert self.go.acquire(timeout=60)
        if self.poison & {row.prompt[0] for row in rows}:
            raise RuntimeError("poisoned")
        for row in rows:
            while not row.push(row.prompt[0], -1.0):
                pass

    def close(self) -> None: ...


@pytest.fixture
def engine():
    bench = Bench(ManualRuntime())
    yield bench
    bench.runtime.go.release(1000)
    bench.close()


def waiting(engine, first_batch_rows=1):
    """Submit a row that occupies the runtime, so that what follows has to wait and is put together."""
    request = engine.submit([1], limit=1)
    until(lambda: engine.runtime.batches, pause_s=0.001)
    return request


def prompts_of(batch):
    return [row.prompt[0] for row in batch]


def test_requests_that_wait_run_as_one_batch(engine):
    requests = [waiting(engine), *(engine.submit([token], limit=token) for token in (2, 3, 4))]
    engine.runtime.go.release(2)
    assert [engine.wait(request) for request in requests] == [[[1]], [[2, 2]], [[3, 3, 3]], [[4, 4, 4, 4]]]
    assert [prompts_of(batch) for batch in engine.runtime.batches] == [[1], [2, 3, 4]]


def test_a_batch_is_no_larger_than_the_runtime_takes(engine):
    requests = [waiting(engine), *(engine.submit([token], limit=1) for token in range(2, 8))]
    engine.runtime.go.release(3)
    for request in requests:
        engine.wait(request)
    assert [len(batch) for batch in engine.runtime.batches] == [1, 4, 2]


def test_other_settings_and_much_longer_prompts_run_apart(engine):
    first = waiting(engine)
    requests = [
        engine.submit([2], limit=1),
        engine.submit([3], limit=1, params=SamplingParams(top_k=5)),
        engine.submit([4] * 40, limit=1),
        engine.submit([5], limit=1),
    ]
    engine.runtime.go.release(10)
    for request in (first, *requests):
        engine.wait(request)
    assert sorted(prompts_of(batch) for batch in engine.runtime.batches) == [[1], [2, 5], [3], [4]]


def test_seeded_rows_run_with_their_own_request_only(engine):
    first = waiting(engine)
    requests = [engine.submit([token], n=2, limit=1, seed=1, params=SAMPLED) for token in (2, 3)]
    engine.runtime.go.release(10)
    for request in (first, *requests):
        engine.wait(request)
    assert [prompts_of(batch) for batch in engine.runtime.batches] == [[1], [2, 2], [3, 3]]


def test_sampled_rows_without_a_seed_share_a_batch(engine):
    first = waiting(engine)
    requests = [engine.submit([token], limit=1, params=SAMPLED) for token in (2, 3)]
    engine.runtime.go.release(10)
    for request in (first, *requests):
        engine.wait(request)
    assert [prompts_of(batch) for batch in engine.runtime.batches] == [[1], [2, 3]]


def test_a_request_that_breaks_its_batch_fails_alone(engine):
    engine.runtime.poison = {3}
    requests = [waiting(engine), *(engine.submit([token], limit=2) for token in (2, 3, 4))]
    engine.runtime.go.release(10)
    assert engine.wait(requests[1]) == [[2, 2]]
    assert engine.wait(requests[3]) == [[4, 4]]
    with pytest.raises(RuntimeError, match="poisoned"):
        engine.wait(requests[2])


@pytest.fixture
def shared():
    """Return an engine of three places, of which streams and whole requests may have two each."""
    bench = Bench(ManualRuntime(max_rows=1, parallel=3), Places(streams=2, wholes=2))
    yield bench
    bench.runtime.go.release(1000)
    bench.close()


@pytest.mark.parametrize("whole", [False, True])
def test_one_kind_of_request_leaves_a_place_to_the_other(shared, whole):
    requests = [shared.submit([1], limit=1, whole=whole) for _ in range(5)]
    until(lambda: len(shared.runtime.batches) == 2, pause_s=0.001)
    requests.append(shared.submit([2], limit=1, whole=not whole))
    until(lambda: len(shared.runtime.batches) == 3, pause_s=0.001)
    assert prompts_of(shared.runtime.batches[2]) == [2]
    shared.runtime.go.release(6)
    assert [shared.wait(request) for request in requests] == [[[1]]] * 5 + [[[2]]]


def test_a_queue_full_of_whole_requests_keeps_no_stream_from_it(shared):
    for _ in range(2 + 64):
        shared.submit([1], limit=1, whole=True)
    stream = shared.submit([2], limit=1)
    until(lambda: [2] in [prompts_of(batch) for batch in shared.runtime.batches], pause_s=0.001)
    shared.runtime.go.release(100)
    assert shared.wait(stream) == [[2]]


def test_streams_and_whole_requests_share_no_batch(engine):
    requests = [waiting(engine), engine.submit([2], limit=1), engine.submit([3], limit=1, whole=True)]
    engine.runtime.go.release(3)
    for request in requests:
        engine.wait(request)
    assert sorted(prompts_of(batch) for batch in engine.runtime.batches) == [[1], [2], [3]]


def test_a_full_queue_makes_the_next_request_wait(engine):
    waiting(engine)
    for _ in range(64):
        engine.submit([2], limit=1)
    late = threading.Thread(target=engine.submit, args=([3],), kwargs={"limit": 1}, daemon=True)
    late.start()
    late.join(0.2)
    assert late.is_alive(), "the 65th row did not wait"
    engine.runtime.go.release(100)
    late.join(60)
    assert not late.is_alive()


def test_a_cancelled_request_that_waits_is_never_run(engine):
    first = waiting(engine)
    gone, stays = engine.submit([2], limit=1), engine.submit([3], limit=1)
    gone.reply.gone = True
    assert gone.reply.finished.wait(60)
    engine.runtime.go.release(10)
    engine.wait(first)
    engine.wait(stays)
    assert [prompts_of(batch) for batch in engine.runtime.batches] == [[1], [3]]


def test_every_token_is_told_once_and_the_last_is_marked(engine):
    request = engine.submit([7], n=2, limit=9)
    engine.runtime.go.release(10)
    engine.wait(request)
    for index in range(2):
        received = [entry for entry in request.reply.received if entry[0] == index]
        assert [start for _, start, _, _ in received] == [0, *(stop for _, _, stop, _ in received[:-1])]
        assert received[-1][2:] == (9, True)
        assert [final for *_, final in received].count(True) == 1


def test_a_row_that_wants_nothing_is_done_at_once(engine):
    assert engine.run([7], limit=0) == [[]]
    assert engine.runtime.batches == []


def test_a_large_seeded_request_is_divided_the_same_way_each_time(engine):
    request = engine.request([5], n=10, seed=1, params=SAMPLED)
    sizes = [len(group.rows) for group in split(request.rows, 4)]
    assert sizes == [4, 4, 2]


def test_a_whole_request_wakes_the_sender_at_the_end_of_its_rows_only():
    woken: list[OutputRow] = []
    for whole in (False, True):
        request = Request(Recorder(), woken.append, whole=whole)
        row = OutputRow(request, 0, [1], 3, SamplingParams())
        while not row.push(1, -1.0):
            pass
    assert [row.request.whole for row in woken] == [False, False, False, True]
