"""The Triton engine against a scripted server: variants of the interface, failures, cancellation."""

import asyncio

import numpy as np
import pytest

from gateway.engine.base import GenerateRequest, Sampling
from gateway.engine.triton import TritonEngine
from gateway.errors import ApiError
from testing.until import until_async
from tests.gateway.scripted_triton import tensors

STREAM = ("fastertransformer", "fastertransformer_stream")


def generate(**changes) -> GenerateRequest:
    given = {"prompt_ids": [4299, 23748], "max_tokens": 16, "sampling": Sampling(), "seeds": [7], **changes}
    return GenerateRequest(**given)


@pytest.fixture
async def engine(fake):
    made = TritonEngine(fake, 50256, connect_timeout_s=1.0)
    yield made
    await made.close()


async def collect(engine, request) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    async for piece in engine.stream(request):
        rows.setdefault(piece.row, []).extend(piece.ids)
    return rows


def stream_from(script, *, withdraws: bool = False) -> None:
    """Let the server have this project's streaming model."""
    script.models, script.decoupled, script.row_streams = STREAM, STREAM[1:], True
    script.withdraws = withdraws


async def leave_after_one(engine, script, *, then_s: float) -> None:
    """Read one chunk of a stream and no more; the server waits ``then_s`` before each of the others."""
    pieces = engine.stream(generate())
    await anext(pieces)
    script.delay_s = then_s
    await pieces.aclose()


async def test_an_unsigned_64_bit_seed_is_sent_where_the_model_wants_one(engine, script):
    script.types = {"random_seed": "UINT64"}
    await engine.complete(generate(seeds=[2**63 + 5]))
    sent = {t["name"]: t for t in tensors(script.requests[0])}
    assert (sent["random_seed"]["datatype"], sent["random_seed"]["data"]) == ("UINT64", [[2**63 + 5]])


async def test_a_seed_is_clamped_to_the_models_type(engine, script):
    await engine.complete(generate(seeds=[2**40 + 9]))
    assert {t["name"]: t["data"] for t in tensors(script.requests[0])}["random_seed"] == [[9]]


async def test_rows_beyond_the_batch_size_go_in_several_requests_and_keep_their_order(engine, script):
    script.max_batch_size = 2
    rows = await engine.complete(generate(n=5, seeds=[1, 2, 3, 4, 5]))
    assert [row.row for row in rows] == [0, 1, 2, 3, 4]
    assert sorted(len(tensors(r)[0]["data"]) for r in script.requests) == [1, 2, 2]


@pytest.mark.parametrize("row_streams", [True, False], ids=["our twin", "nvidia's cumulative"])
async def test_a_stream_brings_what_a_whole_answer_brings(engine, script, row_streams):
    script.models, script.decoupled, script.row_streams = STREAM, STREAM[1:], row_streams
    whole = await engine.complete(generate(n=2, seeds=[1, 2]))
    assert await collect(engine, generate(n=2, seeds=[1, 2])) == {row.row: list(row.ids) for row in whole}
    assert [r.model_name for r in script.requests] == [STREAM[1]] * 2


async def test_a_whole_answer_that_breaks_in_the_middle_is_repeated_from_its_start(engine, script):
    stream_from(script)
    breaks = iter([2])

    def break_once(_answer):
        script.break_after = next(breaks, None)

    script.change = break_once
    (row,) = await engine.complete(generate())
    assert len(script.requests) == 2
    assert (len(row.ids), row.expired) == (7, False)


async def test_a_whole_answer_that_is_slower_than_its_deadline_is_withdrawn_with_what_there_is(
    engine, script
):
    stream_from(script, withdraws=True)
    await engine.complete(generate(max_tokens=2))
    script.held_after = 2
    (row,) = await engine.complete(generate(deadline_s=4.0))
    assert (len(row.ids), row.final, row.expired) == (2, True, True)


async def test_a_model_that_only_streams_still_gives_whole_answers(engine, script):
    script.decoupled = ("fastertransformer",)
    rows = await engine.complete(generate())
    assert rows[0].final
    assert len(rows[0].ids) == 7


async def test_without_a_twin_a_stream_is_the_whole_answer(engine):
    assert len((await collect(engine, generate()))[0]) == 7


async def test_an_unreachable_server_is_tried_once_more(engine, script):
    await engine.complete(generate())
    script.fail_first = 1
    assert len(await engine.complete(generate())) == 1
    script.fail_first = 2
    with pytest.raises(ApiError) as caught:
        await engine.complete(generate())
    assert (caught.value.status, caught.value.retry_after is not None) == (503, True)


async def test_asking_for_the_models_interface_is_tried_once_more_too(engine, script):
    script.fail_first = 1
    assert len(await engine.complete(generate())) == 1


async def test_a_dead_server_is_known_after_a_few_tries_and_answers_at_once(monkeypatch):
    engine = TritonEngine("127.0.0.1:1", 50256, connect_timeout_s=1.0)
    for _ in range(4):
        with pytest.raises(ApiError) as caught:
            await engine.complete(generate())
        assert caught.value.status == 503
    engine._availability._breaker._open_until += 100
    monkeypatch.setattr("gateway.engine.triton.describe", lambda *_: pytest.fail("the server was asked"))
    with pytest.raises(ApiError):
        await engine.complete(generate())
    assert await engine.ready() is False
    await engine.close()


async def test_a_slow_server_ends_at_the_deadline(engine, script):
    await engine.complete(generate())
    script.delay_s = 100
    with pytest.raises(ApiError) as caught:
        await engine.complete(generate(deadline_s=0.2))
    assert caught.value.status == 504


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.update(sequence_length=np.full((1, 1), 4_000_000, "<u4")),
        lambda a: a.update(sequence_length=np.zeros((1, 1), "<u4")),
        lambda a: a.update(output_ids=np.zeros((3, 1, 18), "<u4")),
        lambda a: a.update(output_ids=np.full((1, 1, 18), 2**32 - 1, "<u4")),
        lambda a: a.update(output_log_probs=np.full((1, 1, 16), np.nan, "<f4")),
        lambda a: a.pop("sequence_length"),
        lambda a: a.pop("output_ids"),
    ],
    ids=["too long", "too short", "rows", "huge id", "nan", "no length", "no ids"],
)
async def test_an_impossible_answer_is_a_502(engine, script, change):
    script.change = change
    with pytest.raises(ApiError) as caught:
        await engine.complete(generate(logprobs=True))
    assert caught.value.status == 502


async def test_cancelling_reaches_the_server(engine, script):
    await engine.complete(generate())
    script.delay_s = 100
    task = asyncio.create_task(engine.complete(generate()))
    await until_async(lambda: len(script.requests) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_async(lambda: script.cancelled == 1)


async def test_where_one_part_fails_the_others_stop_their_work(engine, script, monkeypatch):
    script.max_batch_size = 1
    stopped = asyncio.Event()

    async def infer(part, _model, _end):
        if part.seeds == [1]:
            await until_async(lambda: waiting)
            raise ApiError(502, "broken", "server_error")
        waiting.append(part)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    waiting = []
    monkeypatch.setattr(engine, "_infer", infer)
    with pytest.raises(ApiError):
        await engine.complete(generate(n=2, seeds=[1, 2]))
    assert stopped.is_set()


async def test_closing_a_stream_reaches_the_server(engine, script):
    stream_from(script)
    script.delay_s = 0.05
    await leave_after_one(engine, script, then_s=100)
    await until_async(lambda: script.cancelled == 1)


async def test_a_stream_that_is_left_is_withdrawn_and_not_cancelled_where_the_server_knows_how(
    engine, script, monkeypatch
):
    monkeypatch.setattr("gateway.engine.streams._CLOSE_TIMEOUT_S", 100)
    stream_from(script, withdraws=True)
    script.delay_s = 0.02
    await leave_after_one(engine, script, then_s=0)
    (request,) = script.requests
    assert script.withdrawn == [request.parameters["withdrawable"].string_param]
    assert script.cancelled == 0


async def test_a_reader_that_is_cancelled_withdraws_too(engine, script, monkeypatch):
    monkeypatch.setattr("gateway.engine.streams._CLOSE_TIMEOUT_S", 100)
    stream_from(script, withdraws=True)
    script.delay_s = 0.5
    reading = asyncio.create_task(collect(engine, generate()))
    await until_async(lambda: script.requests)
    script.delay_s = 0
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(script.withdrawn) == 1
    assert script.cancelled == 0


async def test_a_server_that_does_not_end_a_stream_is_cancelled_after_a_while(engine, script, monkeypatch):
    monkeypatch.setattr("gateway.engine.streams._CLOSE_TIMEOUT_S", 0.2)
    stream_from(script, withdraws=True)
    script.delay_s = 0.05
    await leave_after_one(engine, script, then_s=100)
    await until_async(lambda: script.cancelled == 1)


async def test_a_stream_that_has_all_its_tokens_ends_by_itself_and_is_not_cancelled(engine, script):
    stream_from(script)
    for _ in range(20):
        pieces = engine.stream(generate())
        async for piece in pieces:
            if piece.final:
                break
        await pieces.aclose()
    await asyncio.sleep(0.1)
    assert script.cancelled == 0


async def test_a_stream_that_breaks_is_an_error_and_not_an_end(engine, script):
    stream_from(script)
    script.break_after = 2
    with pytest.raises(ApiError) as caught:
        await collect(engine, generate())
    assert caught.value.status == 503


async def test_an_unknown_model_is_not_ready_and_503(engine, script):
    script.models = ("other",)
    assert await engine.ready() is False
    with pytest.raises(ApiError) as caught:
        await engine.complete(generate())
    assert caught.value.status == 503


async def test_a_seed_that_nobody_chose_may_be_batched(engine, script):
    await engine.complete(generate())
    await engine.complete(generate(seeded=True))
    assert ["batchable" in r.parameters for r in script.requests] == [True, False]
