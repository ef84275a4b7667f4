"""A model hub, as a program for a pod that has Python alone. Arguments: its certificate and its key, as PEM.

It serves /tmp/model.gguf from when that is there. Its first answer ends in the middle of the file and leaves the
client waiting; later ones are whole. Each answer is a line of JSON: where it began, how many bytes it had.
"""

import itertools
import json
import re
import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

model = Path("/tmp/model.gguf")
numbers = itertools.count()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        data = model.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(asked[1]), int(asked[2]) + 1) if asked else (0, len(data))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("ETag", '"1"')
        self.end_headers()
        held = next(numbers) == 0
        body = data[start : start + (end - start) // 2] if held else data[start:end]
        self.wfile.write(body)
        sys.stdout.write(json.dumps({"start": start, "sent": len(body)}) + "\n")
        sys.stdout.flush()
        if held:
            self.connection.recv(1)  # returns when the client has gone
            self.close_connection = True


while not model.exists():
    time.sleep(0.1)
pem = Path("/tmp/pem")
pem.write_text(sys.argv[1] + sys.argv[2])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(pem)
server = ThreadingHTTPServer(("", 443), Handler)
# A handshake that never comes must hold up its own thread alone.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
