"""Celery on Redis, for the messages about jobs: each holds a job's id and a number, never a prompt."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from celery import Celery
from kombu import Queue
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from gateway.settings import Settings

TASK = "jobs.run"
# What sending a message can raise when Redis is down, full, read-only or refuses the password.
UNSENDABLE = (KombuError, RedisError, OSError)
# How much longer than the longest job a message stays with its worker before it counts as lost: the worker
# may wait for the engine, and for Redis to write the outcome.
_SPARE_S = 300


def make_celery(settings: Settings, *, socket_timeout_s: float) -> Celery:
    """Return the Celery application of gateway and worker, which connects when first used.

    Raises ``ValueError`` with the remedy where the settings have no queue.
    """
    app = Celery("jobs", broker=settings.jobs_url, backend=None, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(settings.jobs_queue)],
        task_default_queue=settings.jobs_queue,
        task_ignore_result=True,  # the records hold the results: private to a key, with a time to live
        task_serializer="json",
        accept_content=["json"],
        # A worker that dies has not acknowledged its message, which is delivered again.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={
            "visibility_timeout": settings.jobs_max_runtime_s + int(settings.jobs_lease_s) + _SPARE_S,
            "global_keyprefix": settings.jobs_prefix,
            "socket_timeout": socket_timeout_s,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_enable_remote_control=False,  # anybody who reaches Redis could command the workers with it
        worker_hijack_root_logger=False,
    )
    return app


class Publisher:
    """Sends messages from the gateway: in threads of its own, because Celery blocks while it sends."""

    def __init__(self, settings: Settings, timeout_s: float = 5.0, threads: int = 4) -> None:
        self._app = make_celery(settings, socket_timeout_s=2)
        self._pool = ThreadPoolExecutor(threads, "jobs-publish")
        # The socket's time-outs bound each thread; without a free thread a message is refused, not queued.
        self._free = threads
        self._timeout_s = timeout_s

    async def publish(self, job_id: str, delivery: int) -> None:
        """Send a message; raises one of ``UNSENDABLE``, within ``timeout_s``, where that fails."""
        if not self._free:
            raise TimeoutError("every thread that sends messages is waiting for Redis")
        self._free -= 1
        sending = asyncio.get_running_loop().run_in_executor(self._pool, send, self._app, job_id, delivery)
        sending.add_done_callback(self._sent)
        async with asyncio.timeout(self._timeout_s):
            await asyncio.shield(sending)

    def _sent(self, sending: "asyncio.Future[None]") -> None:
        self._free += 1
        with suppress(asyncio.CancelledError, *UNSENDABLE):
            sending.result()  # reads the exception, which asyncio would log otherwise

    def close(self) -> None:
        """Drop messages that are not sent yet, and close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._app.close()


def send(app: Celery, job_id: str, delivery: int) -> None:
    """Send one message, blocking. Raises one of ``UNSENDABLE``."""
    app.send_task(TASK, args=[job_id, delivery], task_id=f"{job_id}.{delivery}", retry=False)
