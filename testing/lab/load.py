"""Constant load on a service behind NGINX, from inside a lab's network: run as a program there.

``python -m testing.lab.load URL CERTIFICATE`` asks for completions, whole and streamed, each on a new
connection, until its standard input closes, and prints how each request ended: one line of JSON, as soon as it has.
The key is the environment's ASSIST_KEY.
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
            timeout=400,  # longer than a request may be held
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return {"at": started, "status": 0, "wrong": repr(error)}
    complete = answer.text.endswith("data: [DONE]\n\n") if stream else '"finish_reason"' in answer.text
    fine = answer.status_code == 200 and complete and '"error"' not in answer.text
    return {"at": started, "status": answer.status_code, "wrong": "" if fine else answer.text[:300]}


def main(url: str, certificate: str) -> None:
    """Ask until standard input closes."""
    stop, printing = threading.Event(), threading.Lock()

    def ask(client: int) -> None:
        number = client
        while not stop.is_set():
            answer = ended(url, certificate, number)
            with printing:
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
            number += 1
            stop.wait(PAUSE_S)

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(ask, client) for client in range(CLIENTS)]
        sys.stdin.read()
        stop.set()
    for each in running:
        each.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
