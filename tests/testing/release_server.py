"""A server of releases: files by their paths, over HTTP or HTTPS, with the faults that a test asks for."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class ReleaseServer:
    """The files that are served and the requests that came."""

    files: dict[str, bytes] = field(default_factory=dict)
    # By path: where else a client is sent, how many bytes come before the connection breaks off.
    redirects: dict[str, str] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    # A registry's: without this token, nothing but /token is served.
    token: str = ""
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        self.requests.append(f"{handler.command} {path}")
        if self.token and path != "/token" and handler.headers["Authorization"] != f"Bearer {self.token}":
            handler.send_response(401)
            challenge = f'Bearer realm="{self.url}/token",service="test",scope="pull"'
            handler.send_header("WWW-Authenticate", challenge)
        elif path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[path])
        elif path in self.files:
            body = self.files[path]
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body[: self.broken.get(path)])
            return
        else:
            handler.send_response(404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def serving(folder: Path | None = None) -> Iterator[ReleaseServer]:
    """Serve on a free port of the loopback: HTTPS with a certificate made in ``folder``, else HTTP."""
    releases = ReleaseServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            releases.answer(self)

        def do_HEAD(self) -> None:
            releases.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate(folder))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    releases.url = f"{'https' if folder else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield releases
    server.shutdown()
    thread.join()
    server.server_close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1, signed by itself, and its key."""
    files = folder / "server.crt", folder / "server.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", *curve, *names, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return files
