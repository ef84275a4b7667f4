"""``python -m gateway.worker``: one process that runs jobs from the queue, one at a time.

The task runs in Celery's own process (its solo pool), because a CUDA context does not survive a fork. On
SIGTERM the job under way returns to the queue with the results it has; another worker, or the next start,
continues it.
"""

import asyncio
import logging
import os
import socket
import sys
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import Reject
from celery.worker import state
from pydantic import ValidationError
from redis.exceptions import RedisError

from gateway import wiring
from gateway.jobs.broker import TASK, UNSENDABLE, make_celery, send
from gateway.jobs.store import JobStore
from gateway.settings import Settings
from gateway.telemetry import logs
from gateway.variables import log_renamed
from gateway.worker.metrics import WorkerMetrics
from gateway.worker.runner import Runner

_log = logging.getLogger(__name__)
_USAGE = 2
# Longer than the second for which Celery's consumer blocks on the queue.
_SOCKET_TIMEOUT_S = 15


class Worker:
    """One worker: Celery's consumer in front, one event loop for the engine and Redis behind.

    Raises ``ValueError`` or ``OSError`` with the remedy when a setting cannot work.
    """

    def __init__(self, settings: Settings) -> None:
        self.app = make_celery(settings, socket_timeout_s=_SOCKET_TIMEOUT_S)
        self.sweep_s = settings.jobs_lease_s / 2
        self._loop = asyncio.Runner()
        self._components = wiring.build(settings)
        self._store = JobStore(settings)
        self._metrics = WorkerMetrics()
        name = f"{socket.gethostname()}-{os.getpid()}"
        self._runner = Runner(self._components, self._store, self._metrics, name, stopping)
        if settings.jobs_metrics_port is not None:
            self._metrics.serve(settings.metrics_host, settings.jobs_metrics_port)
        self._register(self.app)

    def _register(self, app: Celery) -> None:
        worker = self

        def run(job_id: str, delivery: int) -> None:
            if not self._loop.run(self._runner.run(job_id, delivery)):
                raise Reject("the job returns to the queue", requeue=True)

        class Sweep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
            """Looks for lost jobs when the worker starts, and while it is idle."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, consumer: Any) -> None:  # noqa: ANN401 -- Celery ships no types
                worker.sweep()
                self._timer = consumer.timer.call_repeatedly(worker.sweep_s, worker.sweep)

            def stop(self, _consumer: Any) -> None:  # noqa: ANN401 -- as above
                self._timer.cancel()

        app.task(name=TASK)(run)
        app.steps["consumer"].add(Sweep)

    def sweep(self) -> None:
        """Send a message again for every job that has no worker and no message on the queue."""
        try:
            for job_id, delivery in self._loop.run(self._store.claim_lost()):
                _log.warning("%s was lost with its worker or its message; delivering it again", job_id)
                send(self.app, job_id, delivery)
                self._metrics.recovered()
        except UNSENDABLE as error:
            _log.warning("Cannot look for lost jobs now: %s", type(error).__name__)

    def run(self) -> int:
        """Work until SIGTERM; return the exit status."""
        worker = self.app.Worker(
            pool_cls="solo", hostname=f"jobs@{socket.gethostname()}-{os.getpid()}", quiet=True,
            without_gossip=True, without_mingle=True, without_heartbeat=True,
        )  # fmt: skip
        try:
            worker.start()
        finally:
            self._loop.run(self._close())
            self._loop.close()
        return int(worker.exitcode or 0)

    async def _close(self) -> None:
        await self._components.engine.close()
        try:
            await self._store.close()
        except RedisError as error:
            _log.warning("Could not close the Redis connection: %s", type(error).__name__)


def stopping() -> bool:
    """Return whether a signal has stopped this process; Celery stores the exit status, which may be 0."""
    statuses = (state.should_stop, state.should_terminate)
    return any(status is not None and status is not False for status in statuses)


def main() -> int:
    """Run a worker; return 2 for settings that cannot work, with the remedy."""
    try:
        settings = Settings.from_environment()
        logs.configure(settings.log_level)
        log_renamed(os.environ)
        signals.setup_logging.connect(_keep_logging, weak=False)
        worker = Worker(settings)
    except (ValidationError, ValueError, OSError) as error:
        print(f"The worker cannot start: {error}", file=sys.stderr)  # noqa: T201  -- the person who starts it reads this
        return _USAGE
    return worker.run()


def _keep_logging(**_: object) -> None:
    """Keep the logging of this process; Celery configures its own unless its signal has a receiver."""


if __name__ == "__main__":
    sys.exit(main())
