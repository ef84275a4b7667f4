"""A host that release 0.1 installed is updated, rolled back and updated again, under load and with nothing lost.

Until then a unit was called ai-assist-front, the gateway's package api and the queue's jobs. The tests build on one
another, in their order.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from testing import earlier
from testing.lab.driver import Lab, Played
from testing.lab.lan import ask, client_key
from testing.lab.rolling import PATIENT, Site, constant_load, failed, stack_file, versions
from testing.lab.state import state

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(3600)]

HOST = "one"
SECRETS = "cd /etc/ai-assist && sha256sum secrets/redis.json keys/keys.json tls/key.pem tls/certificate.pem"
OLD = {"ai-assist-front.service"}
NEW = {"ai-assist-nginx.service"}
# Under the names that they had then, which the stack of a user still has after the update.
LIMITS = {"hold_s": PATIENT["engine_wait_s"], "deadline_s": PATIENT["deadline_s"]}
JOB = {"type": "score", "items": [{"prompt": "# add\n", "text": "def add(a, b):"}]}


@dataclass
class Updated(Site):
    """A host with its earlier version: what it was before, its secrets, and two jobs that it took."""

    before: set[str] = field(default_factory=set)
    secrets: str = ""
    finished: dict[str, Any] = field(default_factory=dict)
    waiting: str = ""

    def play(self, playbook: str, **settings: object) -> Played:
        return super().play(playbook, limits=LIMITS, **settings)

    def check(self, playbook: str) -> Played:
        """Let a playbook predict what it would change."""
        stack = stack_file(self.folder, limits=LIMITS)
        variables = {"service_stack": stack, "service_release": self.release}
        return self.lab.play(playbook, "--check", variables=variables)

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        answer = ask(self.lab, path, body, host=HOST, key=client_key(self.lab.home))
        assert answer["status"] in {200, 202}, answer
        return json.loads(answer["text"])

    def job(self, identifier: str) -> dict[str, Any]:
        """Wait for a job's end and return it."""
        while (job := self.ask(f"/v1/jobs/{identifier}"))["status"] in {"queued", "running"}:
            self.lab.run(HOST, "sleep 0.5")
        return job

    def units(self) -> set[str]:
        """Return NGINX's units that run, are enabled, have a file or are known to systemd."""
        names = self.lab.run(
            HOST,
            "{ ls /etc/systemd/system /etc/systemd/system/multi-user.target.wants /run/ai-assist;"
            " systemctl list-units --all --plain --no-legend | cut -d' ' -f1; } | sort -u",
        )
        return set(names.split()) & (OLD | NEW)

    def logs(self) -> str:
        return self.lab.run(HOST, "cd /var/log/ai-assist && ls *.log* | grep -E '^(front|access)'")


@pytest.fixture(scope="module")
def site(make_lab, tmp_path_factory) -> Updated:
    earlier.require()
    folder: Path = tmp_path_factory.mktemp("update")
    lab: Lab = make_lab("U", f"{HOST}:groups=gateway,gpu,queue")
    before = state(lab, HOST)
    tree = earlier.unpack(folder / "earlier")
    earlier.play(tree, lab, "site.yml", {"service_stack": stack_file(folder, limits=LIMITS)}).succeed()
    site = Updated(lab, "", folder, before, lab.run(HOST, SECRETS))
    assert site.units() == OLD
    site.finished = site.job(site.ask("/v1/jobs", JOB)["id"])
    # A job that no worker of the earlier version gets to see.
    lab.run(HOST, "systemctl stop ai-assist-worker@0")
    site.waiting = site.ask("/v1/jobs", JOB)["id"]
    return site


@pytest.fixture(scope="module")
def earlier_version(site) -> dict[str, str]:
    """Return what the host runs from before it is updated."""
    return versions(site.lab, [HOST])


def test_an_update_fails_no_request_and_leaves_no_unit_of_an_earlier_name(site, earlier_version):
    with constant_load(site.lab, HOST, site.folder) as answers:
        site.play("update.yml").succeed()
    (archive, *_) = sorted(
        (site.lab.home / "releases").glob("*.tar.gz"), key=lambda path: -path.stat().st_mtime
    )
    site.release = archive.name.removesuffix(".tar.gz")
    assert failed(answers) == []
    assert site.units() == NEW
    assert "front" not in site.lab.run(HOST, "ls /run /etc/systemd/system /var/log/ai-assist")
    programs = site.lab.run(
        HOST, "systemctl cat 'ai-assist-*' | grep -oE '/opt/ai-assist/releases/[0-9a-f]+'"
    )
    assert set(programs.split()) == {f"/opt/ai-assist/releases/{site.release}"}


def test_keys_secrets_jobs_and_logs_of_the_earlier_version_are_kept(site):
    log = site.lab.run(HOST, "cat /var/log/ai-assist/access.log")
    assert f'"path":"/v1/jobs/{site.finished["id"]}"' in log
    assert site.lab.run(HOST, SECRETS) == site.secrets
    assert site.ask(f"/v1/jobs/{site.finished['id']}") == site.finished
    assert site.job(site.waiting)["status"] == "succeeded"


def test_a_second_run_changes_nothing(site):
    for playbook in ("update.yml", "site.yml"):
        again = site.play(playbook).succeed()
        assert again.changes == 0, again.changed


def test_a_rollback_returns_to_the_earlier_version_to_the_byte_without_a_failed_request(
    site, earlier_version
):
    with constant_load(site.lab, HOST, site.folder) as answers:
        site.play("rollback.yml").succeed()
    assert failed(answers) == []
    assert versions(site.lab, [HOST]) == earlier_version
    assert site.units() == OLD
    assert site.logs().split() == ["front.log"]


def test_a_second_rollback_returns_to_the_new_version_without_a_failed_request(site):
    with constant_load(site.lab, HOST, site.folder) as answers:
        site.play("rollback.yml").succeed()
    assert failed(answers) == []
    assert site.units() == NEW
    assert site.play("update.yml").succeed().changes == 0


def test_a_plain_deployment_over_the_earlier_version_ends_as_an_update_does(site, earlier_version):
    new = versions(site.lab, [HOST])
    site.play("rollback.yml").succeed()
    assert versions(site.lab, [HOST]) == earlier_version
    predicted = site.check("site.yml").succeed()
    assert versions(site.lab, [HOST]) == earlier_version
    assert site.play("site.yml").succeed().changed == predicted.changed
    assert site.units() == NEW
    assert versions(site.lab, [HOST]) == new
    assert site.play("site.yml").succeed().changes == 0


def test_a_teardown_returns_the_host_to_what_it_was_before_the_earlier_version(site):
    site.play("teardown.yml").succeed()
    after = state(site.lab, HOST)
    assert after == site.before, "\n".join(sorted(after ^ site.before)[:40])
