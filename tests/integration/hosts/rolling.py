"""Updates and rollbacks of a lab's hosts while clients ask without a pause."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stackfile.catalogue import ROOT
from tests.integration.hosts.lab import PROGRAM, Lab, Played
from tests.integration.hosts.lan import client_key

# What a version is on a host: everything that its services run from, but for keys and certificates.
_FILES = "/etc/systemd/system/ai-assist-*.service /etc/ai-assist/*.env /etc/ai-assist/nginx.conf"
_FIRST_S = 3


def stack_file(folder: Path, **settings: object) -> str:
    """Write the repository's stack for hosts with other settings; a held request may wait for a slow machine."""
    patient = {"limits": {"hold_s": 60.0, "deadline_s": 120.0}}
    file = folder / "hosts.yaml"
    file.write_text(
        yaml.safe_dump(yaml.safe_load((ROOT / "stacks/hosts.yaml").read_text()) | patient | settings)
    )
    return str(file)


@dataclass
class Site:
    """The hosts, and the release that they stay on whatever happens to this checkout meanwhile."""

    lab: Lab
    release: str
    folder: Path

    def play(self, playbook: str, **settings: object) -> Played:
        """Run a playbook for a stack with these settings."""
        variables = {"service_stack": stack_file(self.folder, **settings), "service_release": self.release}
        return self.lab.play(playbook, variables=variables, timeout=1200)

    @classmethod
    def converged(cls, lab: Lab, folder: Path) -> "Site":
        """Converge the lab's hosts; ``folder`` gets the stack files."""
        lab.play("site.yml", variables={"service_stack": stack_file(folder)}, timeout=1200).succeed()
        (archive,) = (lab.home / "releases").glob("*.tar.gz")
        return cls(lab, archive.name.removesuffix(".tar.gz"), folder)


def versions(lab: Lab, hosts: list[str]) -> dict[str, str]:
    """Return what each host runs from, and what its units were started from, as digests."""
    command = f"sha256sum {_FILES} 2>/dev/null; sha256sum /run/ai-assist/* | grep -v firewall"
    return {host: lab.run(host, command) for host in hosts}


def served_models(lab: Lab, hosts: list[str]) -> set[str]:
    """Return the model directories that Tritons are running with."""
    command = "systemctl show ai-assist-triton -P ExecStartPre | grep -o 'model-dir=[^ ]*' | sed 's,.*/,,'"
    return {lab.run(host, command).strip() for host in hosts}


@contextmanager
def constant_load(lab: Lab, front: str, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Ask for completions, whole and streamed, as long as the block lasts; gives how each request ended."""
    certificate = folder / "certificate.pem"
    certificate.write_text(lab.run(front, "cat /etc/ai-assist/tls/certificate.pem"))
    client = [
        sys.executable,
        "-m",
        "tests.integration.hosts.load",
        f"https://{lab.address(front)}",
        str(certificate),
    ]
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "--name", lab.name, "run", *client], cwd=ROOT,
        env=lab.environment | {"ASSIST_KEY": client_key(lab.home)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    answers: list[dict[str, Any]] = []
    try:
        time.sleep(_FIRST_S)
        yield answers
        time.sleep(_FIRST_S)
        printed, _ = process.communicate(timeout=300)
        answers += json.loads(printed)
    finally:
        process.kill()
        process.wait()


def failed(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests that did not get a whole completion; there must have been some that did."""
    assert len(answers) > 20, answers
    return [answer for answer in answers if answer["wrong"]]
