"""What a host's servers answer to the host itself: the half of the collector that asks.

The doctor sends it to the host in front of ``collector.py``, as one program of the standard library alone.
"""

import http.client
import json
import re
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
_HTTP_S, _CONNECT_S, _COMPLETION_S = 20.0, 5.0, 90.0
_PROMPT = {"prompt": "def hello(", "max_tokens": 8, "temperature": 0}


class Asking:
    """The servers of one host. ``key`` is for a completion; ``denied`` has what this user may not read."""

    def __init__(self, service: Facts, key: str) -> None:
        self.service, self.key = service, key
        self.folders, self.groups = service["folders"], service["groups"]
        self.config = self.folders["config"]
        self.denied: list[str] = []

    def read(self, path: str | Path) -> str | None:
        """Return a file's text; None where it is missing or may not be read."""
        try:
            return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
        except PermissionError:
            self.denied.append(str(path))
        except OSError:
            pass
        return None

    def gateways(self) -> list[Facts]:
        """Return the ports of each gateway of this host."""
        ports: list[Facts] = self.service["gateway_server"]["ports"]
        return ports

    def http(self) -> Facts:
        """Return what each server of this host answers on its own health check."""
        urls = {}
        if "gpu" in self.groups and self.service["needs_triton"]:
            triton = self.service["triton_server"]
            urls["ai-assist-triton.service"] = (
                triton["listen"], triton["ports"]["http_port"], "/v2/health/ready",
            )  # fmt: skip
        if "gateway" in self.groups:
            host = self.service["gateway_server"]["environment"]["ASSIST_HOST"]
            for one in self.gateways():
                urls[f"ai-assist-gateway@{one['port']}.service"] = (host, one["port"], "/ready")
        with ThreadPoolExecutor(8) as pool:
            return dict(zip(urls, pool.map(lambda url: _get(*url), urls.values()), strict=True))

    def reach(self) -> list[list[Any]]:
        """Return whether the servers that this host's services use accept a connection from here."""
        wanted = []
        environment = self.service["gateway_server"]["environment"]
        if "gateway" in self.groups and "ASSIST_ENGINE_URL" in environment:
            engines = re.sub(r"^ipv[46]:", "", environment["ASSIST_ENGINE_URL"])
            wanted += [_address(one) for one in engines.split(",")]
            for name in ("redis_cache", "redis_jobs"):
                if url := self.service["gateway_server"][name]:
                    wanted.append(_address(url.partition("@")[2].partition("/")[0]))
        worker = self.service["queue_worker"]
        if "gpu" in self.groups and worker["enabled"]:
            wanted.append(_address(worker["redis_jobs"].partition("@")[2].partition("/")[0]))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda one: _connect(*one), wanted))
        return [[host, port, answer] for (host, port), answer in zip(wanted, answers, strict=True)]

    def tls(self) -> Facts | None:
        """Return why a client would not accept the certificate that NGINX shows; None where it would."""
        if "gateway" not in self.groups:
            return None
        file = f"{self.config}/tls/certificate.pem"
        text = self.read(file)
        if text is None:
            return {"file": file, "missing": not Path(file).exists()}
        context = ssl.create_default_context(cadata=text)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        name = self.service["nginx"]["server_name"]
        found: Facts = {"file": file, "since": Path(file).stat().st_mtime}
        try:
            address = ("127.0.0.1", self.service["nginx"]["https_port"])
            with (
                socket.create_connection(address, _CONNECT_S) as plain,
                context.wrap_socket(plain, server_hostname=name) as secured,
            ):
                shown = secured.getpeercert() or {}
                return found | {"until": ssl.cert_time_to_seconds(str(shown["notAfter"]))}
        except ssl.SSLCertVerificationError as error:
            return found | {"code": error.verify_code, "error": error.verify_message}
        except OSError:
            return found

    def completion(self) -> Facts | None:
        """Make a real completion through this host's NGINX, whatever its certificate is."""
        if "gateway" not in self.groups or (self.service["verify"]["auth"] == "keys" and not self.key):
            return None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # `tls` judges the certificate
        port = self.service["nginx"]["https_port"]
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_COMPLETION_S, context=context)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        return _ask(connection, "POST", "/v1/completions", json.dumps(_PROMPT), headers)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _connect(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
    return "open"


def _get(host: str, port: int, path: str) -> Facts:
    return _ask(http.client.HTTPConnection(host, port, timeout=_HTTP_S), "GET", path)


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> Facts:
    """Return status and time; ``silent`` where the server takes the connection and says nothing."""
    began = time.monotonic()
    connected = False
    try:
        connection.connect()
        connected = True
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read(500).decode("utf-8", "replace") if answer.status != 200 else ""
        return {"status": answer.status, "text": text, "seconds": time.monotonic() - began}
    except OSError as error:
        silent = connected and isinstance(error, TimeoutError)
        return {"status": None, "silent": silent, "text": str(error), "seconds": time.monotonic() - began}
    finally:
        connection.close()
