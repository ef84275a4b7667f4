"""Programs that run inside a lab's network, as a client on the hosts' LAN would; each prints JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from testing.lab.driver import Lab

Answer = dict[str, Any]
_OPEN = """
import concurrent.futures, json, socket, sys
address, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
def reachable(port):
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps([port for port, up in zip(ports, pool.map(reachable, ports)) if up]))
"""
_ASK = """
import json, ssl, sys, urllib.error, urllib.request
asked = json.load(sys.stdin)
request = urllib.request.Request(asked["url"], headers=asked["headers"])
if asked["body"] is not None:
    request.data = asked["body"].encode()
context = ssl.create_default_context(cadata=asked["ca"])
try:
    answer = urllib.request.urlopen(request, context=context, timeout=120)
except urllib.error.HTTPError as error:
    answer = error
headers = {name.lower(): value for name, value in answer.headers.items()}
print(json.dumps({"status": answer.status, "headers": headers, "text": answer.read().decode()}))
"""


def open_ports(lab: Lab, address: str, ports: list[int], *, via: str | None = None) -> set[int]:
    """Return which of ``ports`` accept a connection from the LAN, or from the host ``via``."""
    numbers = [str(port) for port in ports]
    if via is None:
        done = lab.network(sys.executable, "-c", _OPEN, address, *numbers)
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout))
    return set(json.loads(lab.run(via, f"python3 -c '{_OPEN}' {address} {' '.join(numbers)}")))


def ask(lab: Lab, path: str, body: object = None, *, host: str, key: str | None) -> Answer:
    """Ask a host's NGINX over TLS, trusting its own certificate and no other; return status, headers, text."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    asked = {
        "url": f"https://{lab.address(host)}{path}",
        "headers": headers,
        "body": text,
        "ca": lab.run(host, "cat /etc/ai-assist/tls/certificate.pem"),
    }
    done = lab.network(sys.executable, "-c", _ASK, stdin=json.dumps(asked))
    assert done.returncode == 0, done.stderr
    answer: Answer = json.loads(done.stdout)
    return answer


def client_key(home: Path) -> str:
    """Return the key that the playbook made for a first client."""
    return (home / "env").read_text().split("ASSIST_KEY=")[1].strip()
