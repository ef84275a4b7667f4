"""Three hosts from nothing to a completion and back: gateway and queue, and two hosts that serve on their CPUs.

ASSIST_HOSTS_SUITE=trixie runs all of it on Debian 13. The tests build on one another, in their order.
"""

import json
import os
from dataclasses import dataclass

import pytest
import testinfra
import yaml

from stackfile.catalogue import ROOT
from testing.lab.driver import Lab, Played
from testing.lab.lan import ask, client_key, open_ports
from testing.lab.state import settled, starts, states
from testing.until import until
from tests.integration.hosts.drift import BY_HAND

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(1500)]

SUITE = os.environ.get("ASSIST_HOSTS_SUITE", "bookworm")
HOSTS = {"gw1": "gateway,queue", "gpu1": "gpu", "gpu2": "gpu"}
RUNNING = {
    "gw1": ["firewall", "nginx", "gateway@5000", "gateway@5001", "redis-cache", "redis-queue"],
    "gpu1": ["firewall", "triton", "worker@0"],
    "gpu2": ["firewall", "triton", "worker@0"],
}
PROMPT = {"prompt": "def hello(", "max_tokens": 8, "temperature": 0}


@dataclass
class Site:
    """The three hosts, what they were before, and how the first runs went."""

    lab: Lab
    before: dict[str, set[str]]
    predicted: Played
    converged: Played
    variables: dict[str, object]

    @property
    def key(self) -> str:
        return client_key(self.lab.home)

    def play(self, playbook: str, *options: str, **variables: object) -> Played:
        return self.lab.play(playbook, *options, variables=self.variables | variables)

    def completion(self) -> dict:
        return ask(self.lab, "/v1/completions", PROMPT, host="gw1", key=self.key)

    def secrets(self) -> list[str]:
        """Every secret there is: Redis's passwords and the client's key."""
        stored = json.loads(self.lab.run("gw1", "cat /etc/ai-assist/secrets/redis.json"))
        return [*stored.values(), self.key]


@pytest.fixture(scope="module")
def site(make_lab) -> Site:
    lab = make_lab("A", suite=SUITE)
    lab.up(*(f"{host}:groups={groups}" for host, groups in HOSTS.items()))
    before = states(lab, HOSTS)
    predicted = lab.play("site.yml", "--check").succeed()
    # The programs stay what they were for the first run, whatever happens to this checkout meanwhile.
    (archive,) = (lab.home / "releases").glob("*.tar.gz")
    variables: dict[str, object] = {"service_release": archive.name.removesuffix(".tar.gz")}
    converged = lab.play("site.yml", variables=variables).succeed()
    return Site(lab, before, predicted, converged, variables)


@pytest.fixture(params=HOSTS)
def host(site, request):
    return testinfra.get_host(f"ssh://{request.param}", ssh_config=str(site.lab.ssh_config))


def test_a_check_of_untouched_hosts_predicts_exactly_what_the_run_then_changes(site):
    assert site.predicted.changed == site.converged.changed
    assert site.converged.changes > 30


def test_every_service_runs_and_is_there_after_a_boot(site, host):
    name = host.backend.hostname
    for unit in RUNNING[name]:
        service = host.service(f"ai-assist-{unit}.service")
        assert service.is_running, unit
        assert service.is_enabled, unit
    assert host.run("systemctl --failed --no-legend --plain").stdout == ""


def test_a_client_on_the_lan_gets_a_completion_over_tls_and_a_stream_that_ends(site):
    answer = site.completion()
    assert answer["status"] == 200, answer
    assert json.loads(answer["text"])["choices"][0]["text"]
    stream = ask(site.lab, "/v1/completions", PROMPT | {"stream": True}, host="gw1", key=site.key)
    assert stream["headers"]["content-type"].startswith("text/event-stream")
    assert stream["text"].rstrip().endswith("data: [DONE]")


def test_a_job_is_scored_by_a_worker_on_another_host(site):
    wanted = {"type": "score", "items": [{"prompt": "# add\n", "text": "def add(a, b):"}]}
    made = ask(site.lab, "/v1/jobs", wanted, host="gw1", key=site.key)
    assert made["status"] == 202, made
    path = f"/v1/jobs/{json.loads(made['text'])['id']}"

    def job() -> dict:
        return json.loads(ask(site.lab, path, host="gw1", key=site.key)["text"])

    until(lambda: job()["status"] not in {"queued", "running"})
    assert job()["status"] == "succeeded", job()
    assert job()["results"][0]["sum_logprob"] < 0


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [("x" * (5 * 2**20), True, 413), (json.dumps(PROMPT), False, 401)],
    ids=["too large", "without a key"],
)
def test_what_is_refused_gets_the_envelope_that_clients_know(site, body, key, status):
    answer = ask(site.lab, "/v1/completions", body, host="gw1", key=site.key if key else None)
    assert answer["status"] == status
    assert json.loads(answer["text"])["error"]["message"]


def test_from_outside_nothing_is_open_but_ssh_and_nginx(site):
    for name in HOSTS:
        listing = site.lab.run(name, "ss -Hltn | awk '{print $4}' | sed 's/.*://' | sort -un")
        listening = [int(port) for port in listing.split()]
        assert len(listening) > 3
        wanted = {22, 443} if name == "gw1" else {22}
        assert open_ports(site.lab, site.lab.address(name), listening) == wanted, name


def test_hosts_reach_of_one_another_only_what_they_use(site):
    gateway, server = site.lab.address("gw1"), site.lab.address("gpu1")
    assert open_ports(site.lab, gateway, [443, 5000, 5001, 6379, 6380], via="gpu1") == {443, 6380}
    assert open_ports(site.lab, server, [8000, 8001, 8002], via="gw1") == {8001}
    assert open_ports(site.lab, server, [8000, 8001, 8002], via="gpu2") == set()


def test_redis_refuses_strangers_and_dangerous_commands_and_keeps_only_the_queue(site):
    def redis(port: int, command: str, user: str = "") -> str:
        name = "gateway" if user == "gateway" else "jobs"
        password = json.loads(site.lab.run("gw1", "cat /etc/ai-assist/secrets/redis.json"))[name]
        login = f"REDISCLI_AUTH={password} redis-cli --user {user}" if user else "redis-cli"
        return site.lab.run(
            "gw1", f"{login} --no-auth-warning -h {site.lab.address('gw1')} -p {port} {command}"
        )

    assert "NOAUTH" in redis(6379, "get assist:x")
    assert "NOAUTH" in redis(6380, "ping")
    assert "PONG" in redis(6380, "ping", "jobs")
    for port, user in ((6379, "gateway"), (6380, "jobs")):
        for command in ("flushall", "config get dir", "keys '*'", "debug sleep 0", "shutdown", "acl list"):
            answer = redis(port, command, user)  # some are switched off in the server itself
            assert "NOPERM" in answer or "not allowed" in answer, command
    assert "NOPERM" in redis(6379, "get other:x", "gateway")
    assert "appendonly yes" in site.lab.run("gw1", "cat /etc/ai-assist/redis/queue.conf")
    assert "appendonly.aof" in site.lab.run("gw1", "find /var/lib/ai-assist/redis-queue")
    assert site.lab.run("gw1", "find /var/lib -name 'dump.rdb'") == ""


def test_units_are_hardened_to_a_score_of_two_or_less(site, host):
    for unit in RUNNING[host.backend.hostname]:
        verdict = host.run(f"systemd-analyze security --no-pager --threshold=20 ai-assist-{unit}.service")
        assert verdict.rc == 0, verdict.stdout.splitlines()[-1]


def test_secrets_are_roots_and_show_nowhere(site, host):
    secrets = host.file("/etc/ai-assist/secrets")
    assert (secrets.user, oct(secrets.mode)) == ("root", "0o700")
    for found in host.run("find /etc/ai-assist/secrets -type f").stdout.split():
        assert oct(host.file(found).mode) == "0o600", found
    for secret in site.secrets():
        pattern = (
            f"'[{secret[0]}]{secret[1:]}'"  # not the secret itself, or the search would find its own command
        )
        for where in (
            f"grep -rl {pattern} /etc /opt/ai-assist /var/lib /var/log /var/tmp /tmp /run 2>/dev/null"
            " | grep -v -e ^/etc/ai-assist/secrets/ -e ^/run/credentials/ -e redis-queue",
            f"journalctl --no-pager | grep {pattern}",
            f"cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep {pattern}",
        ):
            assert host.run(where).stdout == "", where.replace(secret[1:], "SECRET")


def test_a_second_run_changes_nothing_and_restarts_nothing(site):
    before = starts(site.lab, RUNNING)
    again = site.play("site.yml").succeed()
    assert again.changes == 0, again.changed
    assert starts(site.lab, RUNNING) == before


def test_what_was_changed_by_hand_is_found_by_the_next_run_and_mended(site):
    before = states(site.lab, HOSTS)
    for name, (command, _) in BY_HAND.items():
        site.lab.run(name, command)
    mended = site.play("site.yml").succeed()
    assert mended.changed == {name: tasks for name, (_, tasks) in BY_HAND.items()}
    for name, after in states(site.lab, HOSTS).items():
        wrong = settled(after) ^ settled(before[name])
        assert not wrong, "\n".join(sorted(wrong)[:40])
    assert site.completion()["status"] == 200


def test_a_check_of_a_change_shows_it_and_no_secret_and_makes_none(site, tmp_path):
    stack = yaml.safe_load((ROOT / "stacks/hosts.yaml").read_text())
    stack["hosts"]["front"]["requests_per_second"] = 7
    stack["limits"] = {"max_tokens": 99}
    file = tmp_path / "hosts.yaml"
    file.write_text(yaml.safe_dump(stack))
    before = starts(site.lab, RUNNING)
    checked = site.play(
        "site.yml", "--check", "--diff", "-vvv", service_stack=str(file), service_home=str(site.lab.home)
    )
    checked.succeed()
    worker = {"queue_worker : Worker | Process jobs from the queue"}
    assert checked.changed == {
        "gw1": {
            "gateway : Gateway | Serve",
            "nginx : Nginx | Write the configuration and the unit",
            "nginx : Nginx | Run the configuration",
        },
        "gpu1": worker,
        "gpu2": worker,
    }
    assert "rate=7r/s" in checked.output
    for secret in site.secrets():
        assert secret not in checked.output
    assert starts(site.lab, RUNNING) == before
    assert "rate=20r/s" in site.lab.run("gw1", "cat /etc/ai-assist/nginx.conf")


def test_a_reboot_of_every_host_brings_the_service_back(site):
    boots = {name: site.lab.run(name, "cat /proc/sys/kernel/random/boot_id") for name in HOSTS}
    for name in HOSTS:
        site.lab.try_run(name, "systemctl reboot")
    for name in HOSTS:
        site.lab.until_up(name, boots[name])
    for name, units in RUNNING.items():
        names = " ".join(f"ai-assist-{unit}" for unit in units)
        wanted = f'test "$(systemctl is-active {names} | sort --unique)" = active'
        until(lambda: site.lab.try_run(name, wanted).returncode == 0, within_s=300)  # noqa: B023 -- called within the turn
    assert site.completion()["status"] == 200


def test_a_teardown_returns_each_host_to_what_it_was(site):
    site.play("teardown.yml").succeed()
    for name, after in states(site.lab, HOSTS).items():
        assert after == site.before[name], "\n".join(sorted(after ^ site.before[name])[:40])
