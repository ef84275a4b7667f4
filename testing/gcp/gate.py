"""A gate on the provider's way to Compute Engine and GKE: it holds back or refuses the calls that a test names.

The double answers within milliseconds, so a kill "during a creation" needs one that does not end by itself.
"""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from testing.gcp.double import Double

# The variables of the Google provider that move an API elsewhere, and the API's own address.
APIS = {
    "GOOGLE_COMPUTE_CUSTOM_ENDPOINT": "compute.googleapis.com/compute/beta/",
    "GOOGLE_CONTAINER_CUSTOM_ENDPOINT": "container.googleapis.com/v1beta1/",
    "GOOGLE_RESOURCE_MANAGER_CUSTOM_ENDPOINT": "cloudresourcemanager.googleapis.com/v1/",
    "GOOGLE_SERVICE_USAGE_CUSTOM_ENDPOINT": "serviceusage.googleapis.com/v1/",
}
PATIENCE_S = 300.0
READS = ":getIamPolicy"
REFUSAL = {
    "error": {"code": 403, "message": "used up, says the test", "errors": [{"reason": "quotaExceeded"}]}
}


def change(path: str, body: Any) -> str:
    """Return what a call makes, as ``networks gke-dev``: the collection and the name less Pulumi's suffix."""
    given = body or {}
    name = next((given[kind]["name"] for kind in ("cluster", "nodePool") if kind in given), given.get("name"))
    made = path.partition("?")[0].rpartition("/")[2]
    return f"{made} {re.sub('-[0-9a-f]{7}$', '', name or '')}".strip()


@dataclass
class Gate:
    """Forwards to the double. Each creation meets the gate once: what has met it passes from then on."""

    double: Double
    refuses: bool = False
    met: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    _arrives: Callable[[str], bool] | None = None
    _opened: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, arrives: Callable[[str], bool]) -> None:
        """Hold back the answers to creations that have not met the gate; ``arrives``: Google gets the call."""
        self.held, self._opened, self._arrives = [], threading.Event(), arrives

    def open(self) -> None:
        """Let everything pass from now on, and end what is held."""
        self._arrives, self.refuses = None, False
        self._opened.set()

    def waits_for(self, process: subprocess.Popen[str]) -> bool:
        """Return True once a call is held, False once the process ends."""
        while not self.held and process.poll() is None:
            time.sleep(0.02)
        return bool(self.held)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        """Return the status and the body for one call to ``/<host>/<path>``."""
        made = change(path, body)
        creates = method in {"POST", "PATCH"} and not made.endswith(READS)
        arrives, new = self._arrives, creates and self._meets(made)
        if new and self.refuses:
            return 403, json.dumps(REFUSAL).encode()
        if new and arrives and not arrives(made):
            self._stay(made)
            return 503, b"{}"
        answer = self.double.ask(method, f"https:/{path}", body)
        if new and arrives:
            self._stay(made)
        return answer.status_code, answer.content

    def _meets(self, made: str) -> bool:
        with self._lock:
            if made in self.met or (self._arrives is None and not self.refuses):
                return False
            self.met.append(made)
            return True

    def _stay(self, made: str) -> None:
        opened = self._opened
        self.held.append(made)
        opened.wait(PATIENCE_S)


@contextmanager
def serving(gate: Gate) -> Iterator[dict[str, str]]:
    """Serve the gate on the loopback; yield the environment that sends the provider through it."""

    class Handler(BaseHTTPRequestHandler):
        def _pass(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            status, content = gate.answer(self.command, self.path, body)
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                self.close_connection = True  # the caller was killed meanwhile, which is the point

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _pass  # noqa: N815 -- http.server's names

        def log_message(self, *_: Any) -> None:
            """Say nothing: the double has the log of the calls."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {name: f"http://127.0.0.1:{server.server_port}/{api}" for name, api in APIS.items()}
    finally:
        gate.open()
        server.shutdown()
        server.server_close()
