"""G17, G18, G24: clocks that jump, disks that take nothing, keys that change under load."""

import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.auth.keys import create_key, revoke_key, rotate_key
from testing import needs
from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import Gateway
from testing.until import until
from tests.integration.faults.conftest import StartGateway

# So few that a slow machine uses them up before it is given the next one, and a quick one waits 5 s for that.
RPM = 12
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.mark.parametrize("step", ["-3600", "+3600"])
def test_a_wall_clock_that_jumps_locks_nobody_out(
    tmp_path: Path, fake_triton: FakeTritonThread, step: str
) -> None:
    if not _FAKETIME.exists():
        needs.skip("libfaketime is not installed", needs.TOOLS)
    clock = tmp_path / "clock"
    clock.write_text("+0")
    gateway = Gateway(fake_triton.address, tmp_path / "gateway.log", default_rpm=RPM)
    gateway.environment |= {
        "LD_PRELOAD": str(_FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    gateway.start("/ready")
    try:
        before = gateway.complete().json()["created"]
        until(lambda: gateway.complete().status_code == 429, pause_s=0)
        clock.write_text(step)
        refused = gateway.complete()
        assert 1 <= int(refused.headers.get("retry-after", 1)) <= 60 / RPM + 1
        until(lambda: gateway.complete().status_code == 200)
        after = gateway.complete().json().get("created", time.time() + int(step))
        assert abs(after - before - int(step)) < 120, "the clock was not faked"
        assert gateway.status("/ready") == 200
    finally:
        gateway.kill()


def test_it_serves_where_no_byte_can_be_written_to_a_file(fake_triton: FakeTritonThread) -> None:
    needs.program("prlimit")
    gateway = Gateway(fake_triton.address, Path(os.devnull), ("prlimit", "--fsize=0", "--"))
    gateway.start("/ready")
    try:
        assert {gateway.complete().status_code for _ in range(5)} == {200}
        assert gateway.complete("x" * 3_000_000).status_code == 200
        written = [file.path for file in gateway.process.open_files() if file.mode not in {"r", "rb"}]
        assert written == []
    finally:
        gateway.kill()


def test_keys_are_added_rotated_and_revoked_under_load_without_a_failure(
    tmp_path: Path, fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    path = tmp_path / "keys.json"
    key_id, secret = create_key(path, "ann")
    gateway = start_gateway(fake_triton.address, auth="keys", keys_file=path)
    gateway.until_ready()
    current, failures, ended = [secret], [], threading.Event()

    def client() -> None:
        while not ended.is_set():
            answer = gateway.complete(headers={"Authorization": f"Bearer {current[0]}"})
            if answer.status_code != 200:
                failures.append(answer.text)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        key_id, secret = rotate_key(path, key_id, timedelta(hours=1))
        until(lambda: gateway.complete(headers={"Authorization": f"Bearer {secret}"}).status_code == 200)  # noqa: B023 -- called within the turn
        current[0] = secret
    extra_id, extra = create_key(path, "bob")
    until(lambda: gateway.complete(headers={"Authorization": f"Bearer {extra}"}).status_code == 200)
    revoke_key(path, extra_id)
    until(lambda: gateway.complete(headers={"Authorization": f"Bearer {extra}"}).status_code == 401)
    ended.set()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(("level", "logged"), [("debug", {"/health", "/v1/completions"}), ("warning", set())])
def test_the_log_holds_what_its_level_asks_for(
    fake_triton: FakeTritonThread, start_gateway: StartGateway, level: str, logged: set[str]
) -> None:
    gateway = start_gateway(fake_triton.address, log_level=level)
    assert gateway.complete().status_code == 200
    gateway.signal()
    assert gateway.wait(120) == 0
    assert {line["path"] for line in gateway.lines() if "path" in line} == logged
