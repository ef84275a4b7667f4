"""The circuit breaker, on a clock of the test's own."""

import pytest

from gateway.engine.breaker import Breaker
from gateway.errors import ApiError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    made = Breaker(threshold=3, pause_s=5.0, clock=clock)
    for _ in range(3):
        made.check()
        made.record_failure()
    return made


def test_it_opens_after_the_failures_in_a_row_and_says_when_to_try_again(breaker, clock):
    clock.now += 2
    with pytest.raises(ApiError) as caught:
        breaker.check()
    assert (caught.value.status, caught.value.retry_after) == (503, 3.0)


def test_after_the_pause_one_request_probes_and_the_others_still_fail_at_once(breaker, clock):
    clock.now += 5
    breaker.check()
    with pytest.raises(ApiError):
        breaker.check()


def test_a_failed_probe_opens_it_for_another_pause(breaker, clock):
    clock.now += 5
    breaker.check()
    clock.now += 1
    breaker.record_failure()
    clock.now += 4.9
    with pytest.raises(ApiError):
        breaker.check()


def test_a_success_closes_it(breaker, clock):
    clock.now += 5
    breaker.check()
    breaker.record_success()
    breaker.check()
    breaker.check()
