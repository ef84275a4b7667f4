"""Runs tasks on threads; the first failure ends all of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from model_loader.errors import Stopped

T = TypeVar("T")


def run_all(tasks: Sequence[Callable[[], T]], workers: int, stop: Callable[[], None]) -> list[T]:
    """Run ``tasks`` on ``workers`` threads and return their results in order.

    The first failure calls ``stop``, which must make the other tasks end soon; it is raised when they have
    ended.
    """

    def guarded(task: Callable[[], T]) -> T:
        try:
            return task()
        except BaseException:
            stop()  # from the failing thread itself: otherwise it would take the next task first
            raise

    with ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(guarded, task) for task in tasks]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        failures = [e for f in done if (e := f.exception()) is not None]
        if failures:
            pool.shutdown(wait=True, cancel_futures=True)
            raise next((e for e in failures if not isinstance(e, Stopped)), failures[0])
        return [future.result() for future in futures]
