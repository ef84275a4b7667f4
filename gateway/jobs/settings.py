"""What an operator can set about jobs; every field is an environment variable, ``ASSIST_JOBS_...``."""

from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, field_validator
from pydantic_settings import BaseSettings

# What a worker may need after the longest job before its message counts as lost: waiting for the engine, and
# writing the outcome down while Redis comes back.
_SPARE_S = 300


class JobsSettings(BaseSettings):
    """The jobs' share of the gateway's settings, and the worker's; times are seconds, sizes bytes."""

    jobs_redis_url: SecretStr | None = Field(None, description="queue and results; unset: no jobs")
    jobs_queue: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "jobs"
    jobs_result_s: int = Field(86_400, gt=0, description="finished jobs are forgotten after this")
    jobs_max_per_key: int = Field(100, gt=0, description="of one key: waiting, running and kept")
    jobs_max_waiting: int = Field(1000, gt=0, description="of all keys together: waiting and running")
    jobs_max_items: int = Field(256, gt=0, description="texts or prompts in one job")
    jobs_max_bytes: int = Field(1024 * 1024, gt=0, description="body of one job")
    jobs_longest_s: int = Field(1800, gt=0, description="what takes longer fails")
    jobs_parallel: int = Field(4, gt=0, description="items of a job at the engine at once")
    jobs_lease_s: float = Field(30.0, gt=0, description="a worker silent for so long is taken for dead")
    jobs_metrics_port: int | None = Field(None, ge=0, le=65535, description="the worker's; unset: none")

    @field_validator("jobs_redis_url", mode="before")
    @classmethod
    def _no_empty_url(cls, value: object) -> object:
        return None if value == "" else value

    @property
    def jobs_url(self) -> str:
        """Return the Redis URL; raises ``ValueError`` with the remedy when there is none."""
        if self.jobs_redis_url is None:
            raise ValueError(
                "ASSIST_JOBS_REDIS_URL is not set. It is the queue's Redis, for example "
                "redis://jobs:PASSWORD@127.0.0.1:6380/0"
            )
        return self.jobs_redis_url.get_secret_value()

    @property
    def jobs_prefix(self) -> str:
        """Return what all keys of this queue begin with, Celery's among them; queues may share a Redis."""
        return f"assist:jobs:{self.jobs_queue}:"

    @property
    def jobs_visibility_s(self) -> int:
        """Return how long Celery waits for a message that a worker holds: longer than the longest job."""
        return self.jobs_longest_s + int(self.jobs_lease_s) + _SPARE_S
