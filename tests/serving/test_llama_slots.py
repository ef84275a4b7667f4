"""llama.cpp's slots: which row gets which, and what becomes of the cache of a cancelled one."""

import random
import re
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving.backend.requests import OutputRow, SamplingParams
from serving.backend.runtimes.llama_slots import Slots, common_prefix
from testing import needs
from testing.until import until
from tests.serving.local import bench

LONG = [5 + 7 * number % 1000 for number in range(600)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    needs.package("xllamacpp")
    with bench(tmp_path_factory.mktemp("models"), "llama_cpp", "Q8_0", parallel=2) as found:
        yield found


def row(prompt):
    """Return a row without an engine."""
    request = SimpleNamespace(stopped=False)
    return OutputRow(request, 0, prompt, 8, SamplingParams())


def use(slots, prompt, ids=()):
    """Hold a slot for a moment, in which the prompt is read and ``ids`` are generated; return its number."""
    each = row(prompt)
    with slots.hold(each) as slot:
        slot.read = len(prompt)
        each.ids = list(ids)
    return slot.index


@pytest.mark.parametrize("length", [0, 1, 2, 5, 8])
def test_a_common_beginning_is_found_wherever_it_ends(length):
    one = list(range(8))
    assert common_prefix(one, one[:length] + [99] * 5) == length
    assert common_prefix(one[:length], one) == length


def test_a_prompt_that_goes_on_gets_the_slot_that_has_read_it():
    slots = Slots(9)
    prompts = [[person] * 40 for person in range(4)]
    first = [use(slots, prompt, ids=[7, 8, 9]) for prompt in prompts]
    assert len(set(first)) == 4
    again = [use(slots, [*prompt, 7, 8, 5]) for prompt in reversed(prompts)]
    assert again == first[::-1]


def test_a_prompt_that_was_cancelled_early_is_worth_what_was_read_of_it():
    slots = Slots(4)
    with slots.hold(row([1] * 100)) as early:
        early.read = 5
    with slots.hold(row([2] * 100)) as late:
        late.read = 60
    assert slots._best(row([2] * 100)) is late
    assert early.shared([1] * 100) == 5


def test_the_newest_caches_are_kept():
    slots = Slots(3)
    used = [use(slots, [number] * 9) for number in range(3)]
    assert sorted(used) == [0, 1, 2]
    assert use(slots, [77] * 9) in used[:2]


@pytest.mark.parametrize("seed", range(20))
def test_as_many_rows_as_one_kind_may_have_lie_side_by_side(seed):
    """A gap among them makes llama.cpp read the weights twice for each token: 47 tokens/s instead of 77."""
    slots = Slots(9)
    for number, slot in enumerate(random.Random(seed).sample(slots._slots, 9)):
        slot.cached, slot.used = [number] * 30, number
    with ExitStack() as stack:
        rows = [row([100 + number] * 30) for number in range(8)]
        taken = {stack.enter_context(slots.hold(each)).index for each in rows}
    assert max(taken) - min(taken) == 7


def test_few_rows_lie_side_by_side_where_no_cache_is_lost():
    slots = Slots(9)
    with ExitStack() as stack:
        taken = [stack.enter_context(slots.hold(row([number] * 30))).index for number in range(4)]
    assert max(taken) - min(taken) == 3


def test_a_row_waits_while_every_slot_is_held():
    slots = Slots(1)
    got: list[int] = []
    waiter = threading.Thread(target=lambda: got.append(use(slots, [2] * 4)))
    with slots.hold(row([1] * 4)):
        waiter.start()
        until(lambda: slots.waiting == 1)
        assert not got
    waiter.join(timeout=30)
    assert got == [0]


def test_the_successor_of_a_stopped_row_waits_for_its_slot_and_others_do_not():
    slots = Slots(4, wait_s=60)
    stopped = row([1] * 40)
    got: list[int] = []
    waiter = threading.Thread(target=lambda: got.append(use(slots, [1] * 41)))
    with slots.hold(stopped) as held:
        held.read = 40
        stopped.request.stopped = True
        waiter.start()
        until(lambda: slots.waiting == 1)
        assert use(slots, [2] * 40) != held.index
        assert not got
    waiter.join(timeout=30)
    assert got == [held.index]


def test_an_error_frees_the_slot():
    slots = Slots(1)
    with pytest.raises(RuntimeError), slots.hold(row([1] * 4)):
        raise RuntimeError
    assert use(slots, [1] * 4) == 0


def counters(engine) -> dict[str, float]:
    """Return the counters when no slot is in use."""
    until(lambda: engine.runtime.counters()["llamacpp:requests_processing"] == 0)
    return engine.runtime.counters()


def test_the_counters_are_llama_cpps_own(engine):
    before = counters(engine)
    engine.run([3, 4, 5, 6], limit=4)
    after = counters(engine)
    assert all(re.fullmatch(r"llamacpp:\w+", name) for name in after)
    assert after["llamacpp:prompt_tokens_total"] - before["llamacpp:prompt_tokens_total"] == 4
    assert 1 <= after["llamacpp:tokens_predicted_total"] - before["llamacpp:tokens_predicted_total"] <= 4


def test_a_cancelled_prompt_is_not_read_to_its_end(engine):
    before = counters(engine)
    request = engine.request(LONG[::-1])
    request.stopped = True
    engine.runtime.generate(request.rows)
    assert not request.rows[0].ids
    read = counters(engine)["llamacpp:prompt_tokens_total"] - before["llamacpp:prompt_tokens_total"]
    assert read < len(LONG)


def test_the_successor_of_a_cancelled_request_gets_its_slot_and_cache(engine):
    successor = engine.request([*LONG, 9], limit=1)
    running = threading.Thread(target=engine.runtime.generate, args=(successor.rows,))
    started: list[float] = []

    def cancelled_while_it_holds_its_slot(row):
        """Start the successor now, and hold the slot until it has asked llama.cpp or waits for this one."""
        if not started:
            started.append(engine.runtime.counters()["llamacpp:prompt_tokens_cached_total"])
            row.request.stopped = True
            running.start()
            until(lambda: engine.runtime.slots.waiting or not running.is_alive())

    first = engine.request(LONG, limit=50, on_push=cancelled_while_it_holds_its_slot)
    engine.runtime.generate(first.rows)
    running.join(timeout=100)
    assert successor.rows[0].ids
    assert counters(engine)["llamacpp:prompt_tokens_cached_total"] - started[0] >= len(LONG) - 1


def test_a_row_gets_the_slot_that_it_was_given(engine):
    """llama.cpp finds the whole prompt in the cache only if it takes the slot that the row holds."""
    prompts = [[3 + number, *LONG[:200]] for number in range(2)]
    for prompt in prompts:
        engine.run(prompt, limit=1)
    before = counters(engine)["llamacpp:prompt_tokens_cached_total"]
    for prompt in prompts:
        engine.run([*prompt, 9], limit=1)
    found = counters(engine)["llamacpp:prompt_tokens_cached_total"] - before
    assert found >= sum(map(len, prompts)) - len(prompts)


def test_the_tokens_are_the_same_without_their_probabilities(engine):
    with_them, without = engine.request(LONG[:40], limit=12), engine.request(LONG[:40], limit=12)
    without.rows[0].wants_log_probs = False
    for request in (with_them, without):
        engine.runtime.generate(request.rows)
    assert without.rows[0].ids == with_them.rows[0].ids
    assert all(value < 0 for value in with_them.rows[0].log_probs)
    assert without.rows[0].log_probs == [0.0] * len(without.rows[0].ids)


def test_earlier_prompts_are_kept_in_the_slots_alone():
    """llama.cpp would keep up to 8 GiB of them beside the slots, beyond the memory that is computed."""
    needs.package("xllamacpp")
    from serving.backend.runtimes.base import Options
    from serving.backend.runtimes.llama_cpp import _parameters

    options = Options(
        Path("model"), "Q8_0", context_length=64, max_rows=1, parallel=2, threads=1, device="cpu",
        device_index=0, warn=print,
    )  # fmt: skip
    assert _parameters(Path("model.gguf"), options).cache_ram_mib == 0
