"""Slots at the engine: never too many, none lost, and a flood hurts only its caller."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.admission import Admission
from gateway.admission.cursor import Cursor
from gateway.caller import Caller
from gateway.errors import ApiError
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics

ANN, BOB, CAT = (Caller(name, name) for name in ("ann", "bob", "cat"))


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admission(slots: int = 1, queue: int = 10, timeout_s: float = 5, clock: Clock | None = None) -> Admission:
    options = {"max_in_flight": slots, "max_queue": queue, "queue_timeout_s": timeout_s}
    return Admission(Settings(auth="none", **options), Metrics(), clock=clock or Clock())


async def hold(gate: Admission, caller: Caller, release: asyncio.Event, log: list[str]) -> None:
    async with gate.slot(caller):
        log.append(caller.id)
        await release.wait()


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# One step of a random history: who acts and what; cancel and release act on the oldest that still runs.
HISTORY = st.lists(
    st.tuples(st.sampled_from([ANN, BOB, CAT]), st.sampled_from(["enter", "enter", "release", "cancel"])),
    max_size=60,
)


@given(slots=st.integers(1, 8), queue=st.integers(0, 5), history=HISTORY)
def test_no_history_exceeds_the_places_or_loses_one(
    slots: int, queue: int, history: list[tuple[Caller, str]]
) -> None:
    asyncio.run(_replay(slots, queue, history))


async def _replay(slots: int, queue: int, history: list[tuple[Caller, str]]) -> None:
    gate = admission(slots, queue)
    inside: list[str] = []
    releases: list[asyncio.Event] = []
    tasks: list[asyncio.Task[None]] = []

    async def enter(caller: Caller, release: asyncio.Event) -> None:
        async with gate.slot(caller):
            inside.append(caller.id)
            assert len(inside) <= slots
            try:
                await release.wait()
            finally:
                inside.remove(caller.id)

    for caller, action in history:
        if action == "enter":
            releases.append(asyncio.Event())
            tasks.append(asyncio.create_task(enter(caller, releases[-1])))
        elif action == "release" and releases:
            releases.pop(0).set()
        elif action == "cancel" and tasks:
            next((task for task in tasks if not task.done()), tasks[0]).cancel()
        if action != "cancel":  # cancel and grant may fall into one turn of the loop, on purpose
            await settle()
        assert gate.waiting <= queue
        assert gate.running <= slots
        if gate.waiting and gate.running < slots:
            assert slots >= 4
            assert gate.running == slots - 1
            assert set(inside) == {next(iter(gate._queue._turns))}
    for release in releases:
        release.set()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(result is None or isinstance(result, ApiError | asyncio.CancelledError) for result in results)
    assert (gate.running, gate.waiting, dict(gate._held)) == (0, 0, {})


async def test_waiting_callers_take_turns_whatever_one_of_them_queues() -> None:
    gate, log, release = admission(1, 100), [], asyncio.Event()
    first = asyncio.create_task(hold(gate, CAT, release, log))
    await settle()
    rest = [asyncio.create_task(hold(gate, ANN, release, log)) for _ in range(20)]
    await settle()
    rest += [asyncio.create_task(hold(gate, BOB, release, log)) for _ in range(2)]
    await settle()
    release.set()
    await asyncio.gather(first, *rest)
    assert log[:5] == ["cat", "ann", "bob", "ann", "bob"]


async def test_a_flooder_in_a_full_queue_displaces_only_itself() -> None:
    gate, log, release = admission(1, 4), [], asyncio.Event()
    tasks = [asyncio.create_task(hold(gate, ANN, release, log)) for _ in range(5)]
    await settle()
    polite = asyncio.create_task(hold(gate, BOB, release, log))
    await settle()
    refused = [task for task in tasks if task.done()]
    assert len(refused) == 1
    error = refused[0].exception()
    assert isinstance(error, ApiError)
    assert (error.status, error.code, error.retry_after) == (503, "overloaded", 1.0)
    release.set()
    await asyncio.gather(polite, *(task for task in tasks if task not in refused))
    assert "bob" in log[:3]


async def test_one_caller_cannot_hold_every_place_while_others_come_and_go() -> None:
    clock = Clock()
    gate, log, ends = admission(4, 20, clock=clock), [], [asyncio.Event() for _ in range(7)]
    await hold(gate, BOB, _set(), log)
    flood = [asyncio.create_task(hold(gate, ANN, end, log)) for end in ends]
    await settle()
    assert (gate.running, gate.waiting) == (3, 4)
    await hold(gate, BOB, _set(), log)
    assert log == ["bob", "ann", "ann", "ann", "bob"]
    clock.now = 11
    ends[0].set()
    await settle()
    assert (gate.running, gate.waiting) == (4, 2), "nobody else is here any more"
    for end in ends:
        end.set()
    await asyncio.gather(*flood)
    assert gate.running == 0


@pytest.mark.parametrize(("slots", "caller"), [(4, ANN), (3, BOB)])
async def test_a_caller_that_is_alone_or_meets_few_places_has_them_all(slots: int, caller: Caller) -> None:
    gate, release = admission(slots), asyncio.Event()
    await hold(gate, caller, _set(), [])
    flood = [asyncio.create_task(hold(gate, ANN, release, [])) for _ in range(5)]
    await settle()
    assert (gate.running, gate.waiting) == (slots, 5 - slots)
    release.set()
    await asyncio.gather(*flood)


async def test_a_full_queue_is_503_at_once() -> None:
    gate, release = admission(1, 0), asyncio.Event()
    task = asyncio.create_task(hold(gate, ANN, release, []))
    await settle()
    with pytest.raises(ApiError) as caught:
        await hold(gate, BOB, release, [])
    assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
    release.set()
    await task


async def test_a_place_that_does_not_come_is_503_after_the_time_out() -> None:
    gate, release = admission(1, 5, timeout_s=0.05), asyncio.Event()
    task = asyncio.create_task(hold(gate, ANN, release, []))
    await settle()
    with pytest.raises(ApiError, match=r"after 0\.05 s waiting for a free slot"):
        await hold(gate, BOB, release, [])
    assert gate.waiting == 0
    release.set()
    await task


async def test_leaving_the_queue_frees_the_place_in_it() -> None:
    gate, release = admission(1, 1), asyncio.Event()
    holder = asyncio.create_task(hold(gate, ANN, release, []))
    await settle()
    waiter = asyncio.create_task(hold(gate, BOB, release, []))
    await settle()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert gate.waiting == 0
    release.set()
    await holder
    assert gate.running == 0


@pytest.mark.parametrize("order", ["release first", "cancel first"])
async def test_a_place_granted_to_one_that_leaves_goes_to_the_next(order: str) -> None:
    gate, log, release = admission(1, 5), [], asyncio.Event()
    holder = asyncio.create_task(hold(gate, ANN, release, log))
    await settle()
    leaver = asyncio.create_task(hold(gate, BOB, asyncio.Event(), log))
    await settle()
    last = asyncio.create_task(hold(gate, CAT, release, log))
    await settle()
    actions: list[Callable[[], object]] = [release.set, leaver.cancel]
    for act in actions if order == "release first" else reversed(actions):
        act()
    await asyncio.wait_for(asyncio.gather(holder, last, leaver, return_exceptions=True), 60)
    assert log[-1] == "cat"
    assert gate.running == 0


async def test_a_callers_own_concurrency_is_429_and_does_not_take_a_place() -> None:
    gate, release = admission(10), asyncio.Event()
    caller = Caller("ann", concurrency=2)
    tasks = [asyncio.create_task(hold(gate, caller, release, [])) for _ in range(2)]
    await settle()
    with pytest.raises(ApiError) as caught:
        await hold(gate, caller, release, [])
    assert caught.value.status == 429
    assert gate.running == 2
    release.set()
    await asyncio.gather(*tasks)
    await hold(gate, caller, release, [])


async def test_used_tokens_delay_the_next_request_of_that_caller_only() -> None:
    gate, release = admission(10), asyncio.Event()
    release.set()
    ann, bob = Caller("ann", tpm=100), Caller("bob", tpm=100)
    await hold(gate, ann, release, [])
    await gate.charge(ann, 150)
    with pytest.raises(ApiError, match="tokens per minute") as caught:
        await hold(gate, ann, release, [])
    assert caught.value.status == 429
    assert 29 < (caught.value.retry_after or 0) <= 31
    await hold(gate, bob, release, [])


async def _fails() -> None:
    raise ValueError


@pytest.mark.parametrize("work", [_fails, lambda: asyncio.sleep(0)])
async def test_work_that_fails_frees_its_place(work: Callable[[], Awaitable[None]]) -> None:
    gate = admission(1, 0)
    for _ in range(5):
        try:
            async with gate.slot(ANN):
                await work()
        except ValueError:
            pass
    assert gate.running == 0


class TestReplacing:
    """A caller that types on needs no answer to what it asked before."""

    async def waiting(
        self, gate: Admission, caller: Caller, before: str, after: str = "\n"
    ) -> asyncio.Task[None]:
        async def enter() -> None:
            async with gate.slot(caller, cursor=Cursor(before, after) if before else None):
                pass

        task = asyncio.create_task(enter())
        await settle()
        return task

    async def test_a_waiting_request_makes_way_for_a_newer_one_at_its_cursor(self):
        gate, release = admission(slots=1), asyncio.Event()
        holder = asyncio.create_task(hold(gate, BOB, release, []))
        await settle()
        first = await self.waiting(gate, ANN, "x = ")
        second = await self.waiting(gate, ANN, "x = 1")
        with pytest.raises(ApiError) as refused:
            await first
        assert (refused.value.status, refused.value.code) == (499, "request_replaced")
        assert gate.waiting == 1
        release.set()
        await asyncio.gather(holder, second)
        assert (gate.running, gate.waiting) == (0, 0)

    @pytest.mark.parametrize(
        ("caller", "before", "after"),
        [
            (BOB, "x = 1", "\n"),
            (ANN, "x = 1", "\n\n"),
            (ANN, "y = 1", "\n"),
            (ANN, "x = ", "\n"),
            (ANN, "", "\n"),
        ],
        ids=["another caller", "another suffix", "another line", "the same again", "no editor"],
    )
    async def test_no_other_request_makes_it_go(self, caller, before, after):
        gate, release = admission(slots=1), asyncio.Event()
        holder = asyncio.create_task(hold(gate, CAT, release, []))
        await settle()
        first = await self.waiting(gate, ANN, "x = ")
        other = await self.waiting(gate, caller, before, after)
        assert gate.waiting == 2
        release.set()
        await asyncio.gather(holder, first, other)

    async def test_its_caller_keeps_its_turn_while_it_types(self):
        gate, release, log = admission(slots=1), asyncio.Event(), []
        holder = asyncio.create_task(hold(gate, CAT, release, []))
        await settle()
        first = await self.waiting(gate, ANN, "x = ")
        bob = asyncio.create_task(hold(gate, BOB, _set(), log))
        await settle()

        async def second() -> None:
            async with gate.slot(ANN, cursor=Cursor("x = 1", "\n")):
                log.append(ANN.id)

        newer = asyncio.create_task(second())
        await settle()
        release.set()
        with pytest.raises(ApiError):
            await first
        await asyncio.gather(holder, bob, newer)
        assert log == [ANN.id, BOB.id]

    async def test_a_running_request_runs_on(self):
        gate, release = admission(slots=1), asyncio.Event()

        async def run() -> None:
            async with gate.slot(ANN, cursor=Cursor("x = ", "\n")):
                await release.wait()

        running = asyncio.create_task(run())
        await settle()
        second = await self.waiting(gate, ANN, "x = 1")
        release.set()
        await asyncio.gather(running, second)
