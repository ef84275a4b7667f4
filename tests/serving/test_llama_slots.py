"""llama.cpp's slots under cancelled requests: work stops between two steps, and a cache finds its successor."""

import re
import threading

import pytest

from testing import needs
from testing.until import until
from tests.serving.local import bench

LONG = [5 + 7 * number % 1000 for number in range(600)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    needs.package("xllamacpp")
    with bench(tmp_path_factory.mktemp("models"), "llama_cpp", "Q8_0", parallel=2) as found:
        yield found


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
            until(lambda: engine.runtime.waiting or not running.is_alive())

    first = engine.request(LONG, limit=50, on_push=cancelled_while_it_holds_its_slot)
    engine.runtime.generate(first.rows)
    running.join(timeout=100)
    assert successor.rows[0].ids
    assert counters(engine)["llamacpp:prompt_tokens_cached_total"] - started[0] >= len(LONG) - 1
