"""A web server on loopback whose answers a test decides: the frame of the doubles that speak HTTP."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class AnsweringServer:
    """Answers each GET with ``answer``, after ``delay_s`` seconds; ``close`` ends it."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        """Return status and body of the answer to a GET of ``path``."""
        raise NotImplementedError

    def close(self) -> None:
        """End the server; its port is free afterwards."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # Counted before the delay: a caller that gives up has called, too.
                status, body = double.answer(self.path, self.headers.get("Authorization", ""))
                time.sleep(double.delay_s)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
                pass

        return Handler
