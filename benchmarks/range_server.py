"""A hub on loopback with little overhead: Hugging Face's layout, ranges, sendfile. Prints its address.

Usage: python benchmarks/range_server.py FOLDER
"""

import hashlib
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "a" * 40


class Handler(BaseHTTPRequestHandler):
    """Serves the API, HEAD and ranged GET."""

    protocol_version = "HTTP/1.1"
    folder: Path
    digests: dict[str, str]

    def log_message(self, *_arguments) -> None:
        """Log nothing."""
        return

    def do_HEAD(self) -> None:
        """Respond with headers."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Respond with the API or a file."""
        if self.path.startswith("/api/"):
            self._listing()
        else:
            self._answer(body=True)

    def _listing(self) -> None:
        rows = []
        for name, digest in self.digests.items():
            size = (self.folder / name).stat().st_size
            lfs = {"sha256": digest, "size": size, "pointerSize": 130}
            row = {"rfilename": name, "size": size, "blobId": digest[:40], "lfs": lfs}
            rows.append(
                {**row, "type": "file", "path": name, "oid": digest[:40], "lfs": {**lfs, "oid": digest}}
            )
        tree = "/tree/" in self.path
        text = json.dumps(rows if tree else {"id": "bench/model", "sha": COMMIT, "siblings": rows}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _answer(self, *, body: bool) -> None:
        name = self.path.rpartition("/")[2]
        with (self.folder / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            match = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start, end = (int(match[1]), int(match[2] or size - 1) + 1) if match else (0, size)
            end = min(end, size)
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            for key, value in (
                ("ETag", f'"{self.digests[name]}"'),
                ("X-Repo-Commit", COMMIT),
                ("Accept-Ranges", "bytes"),
            ):
                self.send_header(key, value)
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            while body and start < end:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start)


def main() -> None:
    Handler.folder = Path(sys.argv[1])
    Handler.digests = {
        p.name: hashlib.file_digest(p.open("rb"), "sha256").hexdigest()
        for p in sorted(Handler.folder.iterdir())
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(json.dumps({"port": server.server_port, "digests": Handler.digests}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
