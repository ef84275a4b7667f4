"""A queue, a gateway and workers as processes of their own, in front of the real Triton."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth.keys import create_key
from testing import needs
from testing.servers.gateway import RunningGateway, gateway
from testing.servers.gateway_process import MODEL_DIR, Gateway
from testing.servers.redis_server import RedisServer
from testing.servers.triton import ROOT, Triton

JOBS = "/v1/jobs"
FINISHED = {"succeeded", "failed", "cancelled"}
WAIT_S = 120
# Short, so that what depends on them is seen within a test; the defaults are minutes.
LIMITS = {"jobs_lease_s": 2, "jobs_max_runtime_s": 60, "jobs_concurrency": 2}


class Worker:
    """``python -m gateway.worker`` that can be killed."""

    def __init__(self, redis: str, grpc: str, log: Path, **settings: object) -> None:
        defaults = {"jobs_redis_url": redis, "engine_url": grpc, "model_dir": MODEL_DIR, **LIMITS}
        chosen = {f"ASSIST_{name.upper()}": str(value) for name, value in {**defaults, **settings}.items()}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
        self._environment = {**kept, **chosen}
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Worker":
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "gateway.worker"],
                env=self._environment, cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def kill(self) -> None:
        """End it as the kernel would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_S)
            self._process = None

    def stop(self, within_s: float = WAIT_S) -> int:
        """Ask it to end, and return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(within_s)


class Client:
    """One key's view of the jobs."""

    def __init__(self, url: str, secret: str) -> None:
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=WAIT_S,
            trust_env=False,
            # Servers are killed here, and nobody closes this.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def patiently(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        """Ask as often as the gateway says to: on a busy machine Redis may be slow for a while."""
        end = time.monotonic() + WAIT_S
        while (answer := call()).status_code == 503 and time.monotonic() < end:
            time.sleep(0.5)
        return answer

    def submit(self, body: dict[str, Any]) -> str:
        answer = self.patiently(lambda: self.http.post(JOBS, json=body))
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"{JOBS}/{answer.json()['id']}"
        return answer.json()["id"]

    def get(self, job_id: str) -> dict[str, Any]:
        answer = self.patiently(lambda: self.http.get(f"{JOBS}/{job_id}"))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(self, job_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the job until the condition holds."""
        end = time.monotonic() + WAIT_S
        while not condition(found := self.get(job_id)):
            assert time.monotonic() < end, f"not within {WAIT_S} s; last: {found}"
            time.sleep(0.05)
        return found

    def finished(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda found: found["status"] in FINISHED)


def scores(*texts: str, prompt: str = "") -> dict[str, Any]:
    return {"type": "score", "items": [{"prompt": prompt, "text": text} for text in texts]}


def long_job(prompts: int = 16, tokens: int = 600) -> dict[str, Any]:
    """Return a job of several seconds, whose items finish one after the other."""
    texts = [f"def function_{at}(x):\n" for at in range(prompts)]
    return {"type": "completion", "request": {"prompt": texts, "max_tokens": tokens, "temperature": 0.8}}


class Queue:
    """A Redis with persistence, gateways and workers on it, and two keys."""

    def __init__(self, folder: Path, triton: Triton) -> None:
        self.folder, self.triton = folder, triton
        self.redis = RedisServer(folder)
        self.url = self.redis.url.replace("//", "//jobs:secret@")
        self.keys_file = folder / "keys.json"
        self.secrets = {user: create_key(self.keys_file, user)[1] for user in ("alice", "bob")}
        self._running: list[Gateway | Worker] = []
        self._stack = contextlib.ExitStack()

    def start_redis(self, *options: str) -> None:
        # What docs/jobs.md says the user needs, and no more.
        may = ("~assist:jobs:*", "resetchannels", "+@all", "-@dangerous", "-@admin")
        self.redis.start("--appendonly", "yes", "--user", "jobs", "on", ">secret", *may, *options)

    def gateway(self, **settings: object) -> Gateway:
        """Run a gateway as a process of its own."""
        made = Gateway(self.triton.grpc, self.folder / "gateway.log", **self._defaults(settings))
        made.start()
        self._running.append(made)
        return made

    def front(self, user: str = "alice", **settings: object) -> "Client":
        """Run a gateway in a thread, which starts sooner, and return a client of it."""
        made: RunningGateway = self._stack.enter_context(
            gateway(MODEL_DIR, self.triton.grpc, **self._defaults(settings))
        )
        return Client(made.url, self.secrets[user])

    def _defaults(self, settings: dict[str, object]) -> dict[str, object]:
        defaults = {"auth": "keys", "keys_file": self.keys_file, "jobs_redis_url": self.url, **LIMITS}
        return {**defaults, **settings}

    def worker(self, **settings: object) -> Worker:
        made = Worker(
            self.url, self.triton.grpc, self.folder / f"worker-{len(self._running)}.log", **settings
        )
        self._running.append(made)
        return made.start()

    def client(self, gateway: Gateway, user: str = "alice") -> Client:
        return Client(gateway.url, self.secrets[user])

    def stop(self) -> None:
        self._stack.close()
        for each in self._running:
            each.kill()
        self.redis.stop()


def make_queue(folder: Path, triton: Triton) -> Queue:
    needs.program("redis-server")
    found = Queue(folder, triton)
    found.start_redis()
    return found


@pytest.fixture
def queue(tmp_path: Path, triton: Triton) -> Iterator[Queue]:
    """Run a queue of the test's own."""
    found = make_queue(tmp_path, triton)
    yield found
    found.stop()
