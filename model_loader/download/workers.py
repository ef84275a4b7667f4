"""Runs jobs on threads; the first failure ends them all."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from model_loader.errors import Stopped

T = TypeVar("T")


def run_all(jobs: Sequence[Callable[[], T]], workers: int, stop: Callable[[], None]) -> list[T]:
    """Run ``jobs`` on threads and return their results in order.

    The first failure calls ``stop``, which must make the others end soon, and is raised when they have.
    """

    def guarded(job: Callable[[], T]) -> T:
        try:
            return job()
        except BaseException:
            stop()  # from the failing thread itself: it would else take the next job first
            raise

    with ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(guarded, job) for job in jobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        failed = [e for f in done if (e := f.exception()) is not None]
        if failed:
            pool.shutdown(wait=True, cancel_futures=True)
            raise next((e for e in failed if not isinstance(e, Stopped)), failed[0])
        return [future.result() for future in futures]
