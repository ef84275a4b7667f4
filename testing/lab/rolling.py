"""Updates and rollbacks of a lab's hosts while clients ask without a pause."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testing.lab.driver import ROOT, Lab, Played
from testing.lab.lan import client_key
from testing.until import until

# What a version is on a host: everything that its services run from, but for keys and certificates.
_FILES = "/etc/systemd/system/ai-assist-*.service /etc/ai-assist/*.env /etc/ai-assist/nginx.conf"
# A request is held for as long as a busy machine takes to replace a Triton, or to put one back.
PATIENT = {"engine_wait_s": 300.0, "deadline_s": 330.0}
# How many requests are answered before and after what happens under load, and how long that may take.
AROUND, ANSWERED_S = 10, 400.0


def stack_file(folder: Path, **settings: object) -> str:
    """Write the repository's stack for hosts with other settings and ``PATIENT`` limits; return its path."""
    stack = yaml.safe_load((ROOT / "stacks/hosts.yaml").read_text()) | {"limits": PATIENT} | settings
    file = folder / "hosts.yaml"
    file.write_text(yaml.safe_dump(stack))
    return str(file)


@dataclass
class Site:
    """The hosts, and the release that they stay on whatever happens to this checkout meanwhile."""

    lab: Lab
    release: str
    folder: Path

    def play(self, playbook: str, *options: str, **settings: object) -> Played:
        """Run a playbook for a stack with these settings, and with options such as ``--check``."""
        variables = {"service_stack": stack_file(self.folder, **settings), "service_release": self.release}
        return self.lab.play(playbook, *options, variables=variables)

    @classmethod
    def converged(cls, lab: Lab, folder: Path) -> "Site":
        """Converge the lab's hosts; ``folder`` gets the stack files."""
        lab.play("site.yml", variables={"service_stack": stack_file(folder)}).succeed()
        (archive,) = (lab.home / "releases").glob("*.tar.gz")
        return cls(lab, archive.name.removesuffix(".tar.gz"), folder)


def versions(lab: Lab, hosts: list[str]) -> dict[str, str]:
    """Return what each host runs from, and what its units were started from, as digests.

    Exporters of metrics are the host's, whichever version serves.
    """
    command = (
        f"{{ sha256sum {_FILES} 2>/dev/null; sha256sum /run/ai-assist/* | grep -v firewall; }}"
        " | grep -v -e -metrics.service -e node-exporter.service"
    )
    return {host: lab.run(host, command) for host in hosts}


def served_models(lab: Lab, hosts: list[str]) -> set[str]:
    """Return the model directories that Tritons are running with."""
    command = "systemctl show ai-assist-triton -P ExecStartPre | grep -o 'model-dir=[^ ]*' | sed 's,.*/,,'"
    return {lab.run(host, command).strip() for host in hosts}


@contextmanager
def constant_load(lab: Lab, front: str, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Ask for completions, whole and streamed, for as long as the block lasts; gives how each request ended.

    The block begins when requests have been answered, and the load goes on after it until as many more have been.
    """
    certificate = folder / "certificate.pem"
    certificate.write_text(lab.run(front, "cat /etc/ai-assist/tls/certificate.pem"))
    client = [sys.executable, "-m", "testing.lab.load", f"https://{lab.address(front)}", str(certificate)]
    process = subprocess.Popen(
        lab.in_network(*client), cwd=ROOT, env=lab.environment | {"ASSIST_KEY": client_key(lab.home)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    answers: list[dict[str, Any]] = []
    reader = threading.Thread(target=_read, args=(process, answers))
    reader.start()

    def answered(count: int) -> None:
        until(lambda: len(answers) >= count or process.poll() is not None, ANSWERED_S)
        assert process.poll() is None, f"the load ended by itself with status {process.returncode}"

    try:
        answered(AROUND)
        yield answers
        answered(len(answers) + AROUND)
        process.stdin.close()
        assert process.wait(ANSWERED_S) == 0
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stdin.close()


def _read(process: subprocess.Popen[str], answers: list[dict[str, Any]]) -> None:
    """Take over each answer as soon as the client has it."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if not line.endswith("\n"):  # the client was killed while it wrote
                break
            answers.append(json.loads(line))


def failed(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests that did not get a whole completion; some must have been made within the block."""
    assert len(answers) > 2 * AROUND, answers
    return [answer for answer in answers if answer["wrong"]]
