"""Constant load on a service behind NGINX, from inside a lab's network: run as a program there.

``python -m tests.integration.hosts.load URL CERTIFICATE`` asks for completions, whole and streamed, each on a new connection,
until its standard input closes; then it prints how each request ended. The key is the environment's ASSIST_KEY.
"""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

CLIENTS = 2
# Below NGINX's limit of a client's rate, or the load itself would be refused.
PAUSE_S = 0.2


def ended(url: str, certificate: str, number: int) -> dict[str, Any]:
    """Make one request; return its status, and what is wrong with the answer (empty when nothing is)."""
    stream = number % 2 == 0
    body = {"prompt": "def f(x):", "max_tokens": 16, "temperature": 0, "stream": stream}
    headers = {"Authorization": f"Bearer {os.environ['ASSIST_KEY']}"}
    started = time.time()
    try:
        answer = httpx.post(
            f"{url}/v1/completions",
            json=body,
            headers=headers,
            verify=certificate,
            timeout=120,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return {"at": started, "status": 0, "wrong": repr(error)}
    complete = answer.text.endswith("data: [DONE]\n\n") if stream else '"finish_reason"' in answer.text
    fine = answer.status_code == 200 and complete and '"error"' not in answer.text
    return {"at": started, "status": answer.status_code, "wrong": "" if fine else answer.text[:300]}


def main(url: str, certificate: str) -> None:
    """Ask until standard input closes."""
    stop, answers = threading.Event(), list[dict[str, Any]]()

    def ask(client: int) -> None:
        number = client
        while not stop.is_set():
            answers.append(ended(url, certificate, number))
            number += 1
            stop.wait(PAUSE_S)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for client in range(CLIENTS):
            pool.submit(ask, client)
        sys.stdin.read()
        stop.set()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
