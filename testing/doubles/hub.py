"""A hub on loopback that misbehaves on request: real sockets, real HTTP, faults by script."""

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext
from urllib.parse import unquote, urlsplit

REPOSITORY = "org/model"
COMMIT = "c0ffee" + "0" * 34


@dataclass
class Answer:
    """How to answer one request; None fields are answered honestly."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    ignore_range: bool = False
    cut_at: float | None = None  # fraction of the body after which the connection ends
    reset: bool = False
    stall_s: float = 0.0
    drip_s: float = 0.0  # pause after every byte
    chunked: bool = False
    length: int | None = None


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    number: int

    @property
    def start(self) -> int:
        match = re.match(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(match[1]) if match else 0


Script = Callable[[Seen], Answer | None]


class Hub:
    """Files under the hub's layout; ``script`` decides the faults; ``seen`` is the log."""

    def __init__(
        self, files: dict[str, bytes], host: str = "127.0.0.1", tls: SSLContext | None = None
    ) -> None:
        self.files, self.sent = files, 0
        self.card: dict[str, object] | None = None
        # Files of each pull request, by its number.
        self.pulls: dict[int, dict[str, bytes]] = {}
        self.seen: list[Seen] = []
        self.script: Script = lambda _seen: None
        self.etag: Callable[[str], str | None] = lambda p: f'"{sha256(self.files[p]).hexdigest()}"'
        self._lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer((host, 0), handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.host, self.port = host, int(self._server.server_address[1])
        self.url = f"{'https' if tls else 'http'}://{self.host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def note(self, path: str, headers: dict[str, str]) -> Seen:
        with self._lock:
            number = sum(1 for s in self.seen if s.path == path)
            seen = Seen(path, headers, number)
            self.seen.append(seen)
            return seen

    def gets(self, name: str) -> list[Seen]:
        return [s for s in self.seen if s.path.endswith(f"/{name}")]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """Return the commit and the files of a branch, a commit or a pull request."""
        for number, files in self.pulls.items():
            if revision in (f"refs/pr/{number}", f"{number:040x}"):
                return f"{number:040x}", files
        return COMMIT, self.files

    def references(self) -> bytes:
        pulls = [{"name": f"refs/pr/{number}", "ref": f"refs/pr/{number}"} for number in self.pulls]
        return json.dumps({"branches": [{"name": "main"}], "pullRequests": pulls}).encode()

    def api(self, revision: str = "main") -> bytes:
        commit, files = self.at(revision)
        rows = []
        for name, data in files.items():
            row = {"rfilename": name, "size": len(data)}
            if len(data) > 10_000:
                row["lfs"] = {"size": len(data), "sha256": sha256(data).hexdigest()}
            rows.append(row)
        return json.dumps({"sha": commit, "siblings": rows, "cardData": self.card}).encode()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        seen = self.hub.note(path, {k.lower(): v for k, v in self.headers.items()})
        answer = self.hub.script(seen) or Answer()
        if answer.stall_s:
            self.hub.closing.wait(answer.stall_s)
        if path.startswith("/api/models/"):
            revision = path.rpartition("/revision/")[2]
            body = self.hub.references() if path.endswith("/refs") else self.hub.api(revision)
            self._send(answer.status or 200, body if answer.body is None else answer.body, {}, answer)
            return
        revision, _, name = path.rpartition(f"/{REPOSITORY}/resolve/")[2].partition("/")
        self._file(name or path.lstrip("/"), seen, answer, self.hub.at(revision)[1])

    def _file(self, name: str, seen: Seen, answer: Answer, files: dict[str, bytes]) -> None:
        if answer.status not in (None, 200, 206):
            self._send(answer.status, answer.body or b"no", {}, answer)
            return
        if name not in files:
            self._send(404, b"no such file", {}, answer)
            return
        data = files[name] if answer.body is None else answer.body
        etag = self.hub.etag(name) if files is self.hub.files else None
        headers = {"ETag": etag} if etag else {}
        match = re.match(r"bytes=(\d+)-(\d*)", seen.headers.get("range", ""))
        current = seen.headers.get("if-range") in (None, etag)
        if not match or answer.ignore_range or not current or answer.status == 200:
            self._send(200, data, headers, answer)
            return
        start, end = int(match[1]), min(int(match[2] or len(data) - 1) + 1, len(data))
        if start >= len(data):
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, answer)
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._send(206, data[start:end], headers, answer)

    def _send(self, status: int, body: bytes, headers: dict[str, str], answer: Answer) -> None:
        headers = {**headers, **answer.headers}
        self.send_response(status)
        if answer.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers.setdefault("Content-Length", str(len(body) if answer.length is None else answer.length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self._write(body, answer)

    def _write(self, body: bytes, answer: Answer) -> None:
        part = body if answer.cut_at is None else body[: int(len(body) * answer.cut_at)]
        if answer.drip_s:
            for i in range(len(part)):
                if self.hub.closing.wait(answer.drip_s):
                    break
                self.wfile.write(part[i : i + 1])
        elif answer.chunked:
            for i in range(0, len(part), 65536):
                piece = part[i : i + 65536]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if answer.cut_at is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(part)
        self.hub.sent += len(part)
        if answer.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if answer.cut_at is not None or answer.reset or (answer.length or 0) > len(body):
            self.close_connection = True
            time.sleep(0.005)
