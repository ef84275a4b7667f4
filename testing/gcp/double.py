"""Google's APIs in memory (``gcpdouble``), and how to ask them what exists."""

import os
import re
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from testing.ports import free_ports

PROJECT = "demo-project"
TOOLS = ("pulumi", "pulumi-language-python", "pulumi-resource-gcp", "gcpdouble")
CONTAINER = f"https://container.googleapis.com/v1/projects/{PROJECT}"
COMPUTE = f"https://compute.googleapis.com/compute/v1/projects/{PROJECT}"
IAM = f"https://iam.googleapis.com/v1/projects/{PROJECT}/serviceAccounts"


def missing() -> str | None:
    """Say which tools are not on PATH, and how they get there; None where all are."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    how = "install Pulumi with its gcp plugin; gcpdouble is the double of Google that CI puts on PATH"
    return f"not on PATH: {', '.join(absent)}; {how}" if absent else None


@dataclass
class Double:
    """A running double. Clients reach it as an HTTPS proxy that answers for ``*.googleapis.com`` alone."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, folder: Path) -> "Double":
        (port,) = free_ports(1)
        listen = ["-listen", f"127.0.0.1:{port}", "-ca", str(folder / "ca.pem"), "-project", PROJECT]
        with (folder / "double.log").open("w") as log:
            process = subprocess.Popen(["gcpdouble", *listen], stdout=log, stderr=subprocess.STDOUT)
        made = cls(folder, port, process)
        deadline = time.monotonic() + 20
        while not made.answers() and time.monotonic() < deadline:
            time.sleep(0.05)
        return made

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return (self.folder / "ca.pem").exists()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)

    @property
    def environment(self) -> dict[str, str]:
        proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{self.port}", "SSL_CERT_FILE": str(self.folder / "ca.pem")}
        return {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"} | proxy

    @property
    def calls(self) -> list[str]:
        """Return each call so far as ``METHOD host/path``."""
        lines = (self.folder / "double.log").read_text().splitlines()
        return [" ".join(line.split()[2:4]) for line in lines]

    def ask(self, method: str, address: str, body: Any = None) -> httpx.Response:
        import ssl

        trust = ssl.create_default_context(cafile=self.folder / "ca.pem")
        with httpx.Client(proxy=f"http://127.0.0.1:{self.port}", verify=trust, trust_env=False) as client:
            return client.request(method, address, json=body, headers={"Authorization": "Bearer x"})

    def exists(self, address: str) -> bool:
        if "container.googleapis.com" in address:
            # The state keeps the address that GKE reports, which its current API answers under another name.
            address = re.sub("/(zones|regions)/", "/locations/", address).replace("/v1beta1/", "/v1/")
        status = self.ask("GET", address).status_code
        assert status in {200, 404}, f"{address}: {status}"
        return status == 200

    def pools(self, cluster: str, location: str) -> list[str]:
        """Return the names of a cluster's node pools."""
        answer = self.ask("GET", f"{CONTAINER}/locations/{location}/clusters/{cluster}/nodePools")
        return sorted(pool["name"] for pool in answer.json().get("nodePools", []))

    def bindings(self) -> str:
        address = f"https://cloudresourcemanager.googleapis.com/v1/projects/{PROJECT}:getIamPolicy"
        return self.ask("POST", address, {}).text
