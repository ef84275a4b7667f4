"""What Prometheus reads of a host's certificate: that of the server, not of a file."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stackfile.catalogue import ROOT
from testing.needs import program
from testing.ports import free_ports
from testing.until import until

PROGRAM = ROOT / "ansible/roles/monitoring/files/certificate_metrics.py"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """Serve TLS with a certificate of ten days, and give the port."""
    program("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "10",
         "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def samples(tmp_path: Path, port: int) -> dict[str, float]:
    target = tmp_path / "certificate.prom"
    process = subprocess.Popen([sys.executable, "-I", PROGRAM, target, "60", "127.0.0.1", str(port)])
    try:
        until(target.exists)
    finally:
        process.kill()
        process.wait()
    families = text_string_to_metric_families(target.read_text())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_the_servers_certificate_has_its_end_in_unix_time(server, tmp_path):
    found = samples(tmp_path, server)
    certificate = (tmp_path / "certificate.pem").read_text()
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate"],
        input=certificate,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = ssl.cert_time_to_seconds(shown.stdout.strip().partition("=")[2])
    assert found == {
        "assist_certificate_shown": 1,
        "assist_certificate_expires_timestamp_seconds": expected,
    }


def test_a_server_that_does_not_answer_has_no_time_at_all(tmp_path):
    assert samples(tmp_path, free_ports(1)[0]) == {"assist_certificate_shown": 0}
