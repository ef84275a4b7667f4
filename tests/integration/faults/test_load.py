"""G14, G23: storms of retries, keystrokes that cancel one another, and a neighbour that floods."""

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.auth.keys import create_key
from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import request_bytes
from testing.until import until
from tests.integration.faults.conftest import StartGateway
from tests.integration.faults.test_clients import BODY, NEVER


def test_a_storm_is_shed_before_any_work_and_leaves_full_capacity(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    fake = fake_triton.fake
    gateway = start_gateway(fake_triton.address, **NEVER, max_in_flight=4, max_queue=4)
    gateway.until_ready()
    fake.fault = "held"
    with ThreadPoolExecutor(60) as pool:
        running = [pool.submit(gateway.complete) for _ in range(240)]
        until(lambda: sum(each.done() for each in running) == 232, within_s=180)
        fake.fault = ""
        answers = [each.result() for each in running]
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(503)) == (8, 232)
    assert fake.served == 8
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503)
    with ThreadPoolExecutor(4) as pool:
        assert {each.status_code for each in pool.map(lambda _: gateway.complete(), range(16))} == {200}


def test_keystrokes_that_cancel_their_predecessors_all_end_in_an_answer(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    fake = fake_triton.fake
    gateway = start_gateway(fake_triton.address, **NEVER, max_in_flight=4, max_queue=256)
    gateway.until_ready()
    fake.latency_s = 0.2

    def typist(_: int) -> int:
        for _ in range(10):
            connection = gateway.connect()
            connection.sendall(request_bytes(BODY))
            time.sleep(0.02)
            connection.close()
        return gateway.complete().status_code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(typist, range(12))) == {200}
    until(lambda: fake.running == 0)
    until(lambda: gateway.metric("vllm:num_requests_running") == 0)
    assert gateway.metric("assist_requests_cancelled_total") + fake.served > 0


def test_a_flooding_neighbour_is_refused_and_a_polite_one_never(
    tmp_path: Path, fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    (_, loud), (_, polite) = (create_key(tmp_path / "keys.json", user) for user in ("loud", "polite"))
    gateway = start_gateway(
        fake_triton.address, auth="keys", keys_file=tmp_path / "keys.json", max_in_flight=4, max_queue=16
    )
    gateway.until_ready()
    # Longer than a client of a busy machine takes, so that what is compared is the waiting.
    fake_triton.fake.latency_s = 0.25
    ended, loud_times, loud_refused = threading.Event(), [], []

    def flood() -> None:
        while not ended.is_set():
            started = time.monotonic()
            answer = gateway.complete(headers={"Authorization": f"Bearer {loud}"})
            if answer.status_code == 200:
                loud_times.append(time.monotonic() - started)
            else:
                loud_refused.append(answer.status_code)
                time.sleep(0.02)

    threads = [threading.Thread(target=flood) for _ in range(32)]
    for thread in threads:
        thread.start()
    until(lambda: loud_refused)
    polite_times = []
    for _ in range(15):
        started = time.monotonic()
        assert gateway.complete(headers={"Authorization": f"Bearer {polite}"}).status_code == 200
        polite_times.append(time.monotonic() - started)
    ended.set()
    for thread in threads:
        thread.join()
    assert set(loud_refused) == {503}
    assert statistics.median(polite_times) < statistics.median(loud_times)


def test_a_keys_own_limits_refuse_it_alone(
    tmp_path: Path, fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    _, narrow = create_key(tmp_path / "keys.json", "narrow", concurrency=1)
    _, wide = create_key(tmp_path / "keys.json", "wide")
    gateway = start_gateway(fake_triton.address, auth="keys", keys_file=tmp_path / "keys.json")
    gateway.until_ready()
    fake_triton.fake.fault = "held"
    with ThreadPoolExecutor(6) as pool:
        mine = [
            pool.submit(gateway.complete, headers={"Authorization": f"Bearer {narrow}"}) for _ in range(3)
        ]
        others = [
            pool.submit(gateway.complete, headers={"Authorization": f"Bearer {wide}"}) for _ in range(3)
        ]
        until(lambda: sum(each.done() for each in mine) == 2 and fake_triton.fake.running == 4)
        fake_triton.fake.fault = ""
        assert sorted(each.result().status_code for each in mine) == [200, 429, 429]
        assert {each.result().status_code for each in others} == {200}
