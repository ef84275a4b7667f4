"""Celery on Redis: how messages are sent. One holds a job's id and a number, never a prompt."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from celery import Celery
from kombu import Queue
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from gateway.jobs.settings import JobsSettings

TASK = "jobs.run"
# What sending a message can raise when Redis is away, full, read-only or refuses the password.
UNSENDABLE = (KombuError, RedisError, OSError)


def make_celery(settings: JobsSettings, *, socket_timeout_s: float) -> Celery:
    """Return the Celery application of gateway and worker; nothing connects yet."""
    app = Celery("jobs", broker=settings.jobs_url, backend=None, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(settings.jobs_queue)],
        task_default_queue=settings.jobs_queue,
        task_ignore_result=True,  # the records hold it: private to a key, with a time to live
        task_serializer="json",
        accept_content=["json"],
        # A worker that dies in the middle has not acknowledged; its message comes back.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        broker_transport_options={
            "visibility_timeout": settings.jobs_visibility_s,
            "global_keyprefix": settings.jobs_prefix,
            "socket_timeout": socket_timeout_s,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_enable_remote_control=False,  # it would let whoever reaches Redis command the workers
        worker_hijack_root_logger=False,
    )
    return app


class Publisher:
    """Sends messages from the gateway: in threads of its own, because Celery blocks while it sends."""

    def __init__(self, settings: JobsSettings, timeout_s: float = 5.0, threads: int = 4) -> None:
        self._app = make_celery(settings, socket_timeout_s=2)
        self._pool = ThreadPoolExecutor(threads, "jobs-publish")
        # Each thread is bounded by the socket's limits; who finds all of them taken is refused, not queued.
        self._free = threads
        self._timeout_s = timeout_s

    async def publish(self, job_id: str, delivery: int) -> None:
        """Send a message; raises one of ``UNSENDABLE`` within ``timeout_s`` where that is impossible."""
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
            sending.result()  # asks for the exception, which asyncio would log if nobody did

    def close(self) -> None:
        """Give up what is still being sent, and close the connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._app.close()


def send(app: Celery, job_id: str, delivery: int) -> None:
    """Send one message; blocks. Raises one of ``UNSENDABLE``."""
    app.send_task(TASK, args=[job_id, delivery], task_id=f"{job_id}.{delivery}", retry=False)
