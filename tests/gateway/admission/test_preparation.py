"""What a request costs before it has a slot: nothing where it is refused anyway, and never without bound."""

import asyncio

import pytest

from gateway.admission.cursor import Cursor
from gateway.caller import Caller
from gateway.errors import ApiError
from tests.gateway.admission.test_admission import ANN, BOB, admission, hold, settle


class Preparation:
    """What a request costs before its slot: counted, and as long as the test wants."""

    def __init__(self, *, held: bool = False) -> None:
        self.started, self.proceed = 0, asyncio.Event()
        if not held:
            self.proceed.set()

    async def __call__(self) -> None:
        self.started += 1
        await self.proceed.wait()


async def test_a_caller_over_a_limit_or_a_full_queue_costs_no_preparation() -> None:
    preparation, forever = Preparation(), asyncio.Event()
    for limited in (Caller("r", "r", rpm=1), Caller("t", "t", tpm=1), Caller("c", "c", concurrency=1)):
        gate = admission(slots=4)
        first = asyncio.create_task(hold(gate, limited, forever, []))
        await settle()
        await gate.charge(limited, 1000)
        with pytest.raises(ApiError) as error:
            async with gate.slot(limited, prepare=preparation):
                pass
        assert error.value.status == 429
        first.cancel()
    gate = admission(slots=1, queue=0)
    running = asyncio.create_task(hold(gate, ANN, forever, []))
    await settle()
    with pytest.raises(ApiError, match="queue is full"):
        async with gate.slot(BOB, prepare=preparation):
            pass
    assert not preparation.started
    running.cancel()


async def test_what_cannot_be_prepared_takes_no_slot_and_waits_for_none() -> None:
    gate, forever, log = admission(slots=1), asyncio.Event(), list[str]()
    running = asyncio.create_task(hold(gate, ANN, forever, log))
    await settle()

    async def refuse() -> None:
        assert (gate.running, gate.waiting) == (1, 0)
        raise ApiError(400, "too long")

    with pytest.raises(ApiError, match="too long"):
        async with gate.slot(BOB, prepare=refuse):
            pass
    assert (gate.running, gate.waiting) == (1, 0)
    running.cancel()


async def test_preparations_are_bounded_and_one_caller_does_not_have_them_all() -> None:
    gate, held = admission(slots=1, queue=2), Preparation(held=True)

    async def enter(caller: Caller) -> None:
        async with gate.slot(caller, prepare=held):
            pass

    tasks = [asyncio.create_task(enter(ANN)) for _ in range(10)]
    await settle()
    assert held.started == 3
    polite = asyncio.create_task(enter(BOB))
    await settle()
    assert held.started == 4
    held.proceed.set()
    results = await asyncio.gather(*tasks, polite, return_exceptions=True)
    refused = [each for each in results if isinstance(each, ApiError)]
    assert (len(refused), results[-1]) == (7, None)
    assert {each.status for each in refused} == {503}


async def test_a_request_that_replaces_its_predecessor_is_prepared_though_the_queue_is_full() -> None:
    gate, forever, preparation = admission(slots=1, queue=1), asyncio.Event(), Preparation()
    running = asyncio.create_task(hold(gate, ANN, forever, []))
    await settle()

    async def typed(text: str) -> None:
        async with gate.slot(BOB, cursor=Cursor(text, "\n"), prepare=preparation):
            pass

    older = asyncio.create_task(typed("x = "))
    await settle()
    newer = asyncio.create_task(typed("x = 1"))
    await settle()
    assert preparation.started == 2
    with pytest.raises(ApiError) as error:
        await older
    assert error.value.status == 499
    forever.set()
    await asyncio.gather(running, newer)
