"""Write when the certificate that a server shows expires, to a file that Prometheus' node exporter reads.

It asks the server, because what it serves is what clients see, also where a renewed file was not loaded.
Standard library and openssl only, for the system's Python: ``certificate_metrics.py TARGET SECONDS HOST
PORT``
"""

import ssl
import subprocess
import sys
import time
from pathlib import Path

_TIMEOUT_S = 10
_EXPIRES = "assist_certificate_expires_timestamp_seconds"


def expiry(host: str, port: int) -> float | None:
    """Return the Unix time at which the certificate expires; None where the server shows none."""
    try:
        pem = ssl.get_server_certificate((host, port), timeout=_TIMEOUT_S)
        command = ["openssl", "x509", "-noout", "-enddate"]
        done = subprocess.run(
            command, input=pem, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        return float(ssl.cert_time_to_seconds(done.stdout.strip().partition("=")[2]))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def render(expires: float | None) -> str:
    """Return the metrics in Prometheus' text format; without an answer there is no time."""
    lines = [
        "# HELP assist_certificate_shown Whether the server shows a certificate.",
        "# TYPE assist_certificate_shown gauge",
        f"assist_certificate_shown {int(expires is not None)}",
    ]
    if expires is not None:
        lines += [
            f"# HELP {_EXPIRES} When the certificate expires, in Unix time.",
            f"# TYPE {_EXPIRES} gauge",
            f"{_EXPIRES} {expires:.0f}",
        ]
    return "\n".join(lines) + "\n"


def write(target: Path, text: str) -> None:
    """Replace the file in one step, because the exporter may read it at any moment."""
    fresh = target.with_suffix(".fresh")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(target)


def main() -> None:
    """Write the metrics every few seconds until the process is stopped."""
    target, seconds, host, port = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    while True:
        write(target, render(expiry(host, port)))
        time.sleep(seconds)


if __name__ == "__main__":
    main()
