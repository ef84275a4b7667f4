"""What the doctor makes of a host's facts, where no booted host can be brought into that state."""

import ast
import json
import sys
from typing import Any

import pytest

from assist.doctor import hosts
from assist.doctor.hosts import network, units
from assist.doctor.hosts.facts import Commands, Host, Site
from assist.findings import Finding
from assist.paths import SOURCE, Paths

UNIT = {
    "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled",
    "Result": "success", "NRestarts": "0", "NeedDaemonReload": "no", "DropInPaths": "", "MainPID": "7",
    "MemoryMax": "1000", "ExecMainStatus": "0", "StateChangeTimestamp": "Sun 2026-11-29 19:30:00 UTC",
    "file": "/etc/systemd/system/ai-assist-triton.service", "written": "a.b", "started": "a.b",
    "unit_edited": False, "files_edited": False, "suspended": [], "journal": [], "loops": False,
}  # fmt: skip
COMMANDS = Commands(Paths(SOURCE), ("mine",), SOURCE / "stacks/hosts.yaml")


def host(facts: dict[str, Any], service: dict[str, Any] | None = None) -> Host:
    return Host(
        "gpu1",
        service or {},
        {"listening": [], "denied": []} | facts,
        "",
        unreachable=False,
        asked=(0.0, 1.0),
    )


def of_unit(**properties: object) -> list[Finding]:
    service = {"folders": {"secrets": "/etc/ai-assist/secrets"}}
    one = host({"units": {"ai-assist-triton.service": UNIT | properties}}, service)
    return units.check(Site({"gpu1": one}, COMMANDS), one)


@pytest.mark.parametrize(
    ("properties", "fault", "said"),
    [
        ({"ActiveState": "failed", "Result": "oom-kill"}, "process-crashing", "memory limit (1000 bytes)"),
        (
            {"ActiveState": "activating", "SubState": "start-post", "MainPID": "0", "Result": "exit-code",
             "journal": ["RuntimeError: no model"]}, "process-crashing", "RuntimeError: no model",
        ),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code",
             "journal": ["Failed to set up credentials: No such file or directory"]}, "process-crashing", "password",
        ),
        ({"loops": True, "journal": ["bind() to 0.0.0.0:443 failed (98: Address already in use)"]}, "port-taken", "its port"),
        ({"LoadState": "not-found"}, "process-stopped", "not installed"),
        ({"NeedDaemonReload": "yes"}, "version-old", "systemd has not read it again"),
        ({"started": "c.d"}, "version-old", "not activated"),
        ({"UnitFileState": "disabled"}, "unit-disabled", "next boot"),
        ({"files_edited": "missing /etc/ai-assist/secrets/x"}, "secret-missing", "/etc/ai-assist/secrets/x"),
        ({"files_edited": "missing /etc/ai-assist/nginx.conf"}, "settings-edited", "nginx.conf"),
    ],
)  # fmt: skip
def test_a_units_state_is_named(properties, fault, said):
    (found,) = of_unit(**properties)
    assert (found.fault, found.host) == (fault, "gpu1")
    assert said in found.cause
    assert found.remedy


def test_what_was_edited_for_all_instances_of_a_template_is_told_once():
    names = [f"ai-assist-gateway@{port}.service" for port in (5000, 5001)]
    one = host({"units": dict.fromkeys(names, UNIT | {"files_edited": True})})
    assert [each.fault for each in units.check(Site({}, COMMANDS), one)] == ["settings-edited"]


def test_a_unit_that_is_loading_its_model_is_well():
    assert [one.status for one in of_unit(ActiveState="activating", SubState="start-post")] == ["ok"]


def test_the_time_of_a_state_is_utc_in_iso_8601():
    (found,) = of_unit(UnitFileState="disabled")
    assert found.since == "2026-11-29T19:30:00Z"


@pytest.mark.parametrize(
    ("running", "well"),
    [
        ({"9100": ["10.0.0.1-10.0.0.2"], "443": ["0.0.0.0/0"]}, True),  # as nftables merges neighbours
        ({"9100": ["10.0.0.1"], "443": ["0.0.0.0/0"]}, False),
        ({"443": ["0.0.0.0/0"]}, False),
        ({"9100": ["10.0.0.1-10.0.0.2"], "443": ["0.0.0.0/0"], "5000": ["10.0.0.9"]}, False),
        (None, False),
    ],
)
def test_running_rules_are_compared_by_the_addresses_that_they_let_in(running, well):
    rules = [
        {"port": 443, "ipv4": ["0.0.0.0/0"], "ipv6": []},
        {"port": 9100, "ipv4": ["10.0.0.1/32", "10.0.0.2/32"], "ipv6": []},
    ]
    one = host(
        {"firewall": running, "reach": [], "tls": None, "time": 0.5},
        {"firewall": {"enabled": True, "rules": rules}},
    )
    (found,) = [each for each in network.check(Site({}, COMMANDS), one) if each.id == "firewall"]
    assert (found.status == "ok") is well


def test_a_clock_is_compared_with_the_moments_between_which_it_was_read():
    for now, well in ((0.5, True), (29.0, True), (7200.0, False), (-7200.0, False)):
        one = host({"firewall": {}, "reach": [], "tls": None, "time": now}, {"firewall": {"enabled": False}})
        (found,) = network.check(Site({}, COMMANDS), one)
        assert (found.status == "ok") is well, now


def test_roots_answer_goes_before_the_login_users_and_a_host_that_is_away_has_none():
    facts = {"stdout": json.dumps({"denied": [], "time": 2})}
    login = {"stdout": json.dumps({"denied": ["/etc/x"], "time": 1})}
    read = Host.of("a", {"service": {}, "login": login, "root": facts}, (0.0, 3.0))
    assert read.facts["time"] == 2
    kept = Host.of("a", {"service": {}, "login": login, "root": {"msg": "Missing sudo password"}}, (0.0, 3.0))
    assert (kept.facts["time"], kept.message) == (1, "Missing sudo password")
    away = Host.of(
        "a", {"service": {}, "login": {"unreachable": True, "msg": "timed out"}, "root": {}}, (0.0, 3.0)
    )
    assert (away.unreachable, away.facts, away.message) == (True, {}, "timed out")


def test_the_collector_is_one_program_of_the_standard_library():
    tree = ast.parse(hosts.program_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names


def test_commands_are_those_that_a_user_types_in_the_clone():
    command = COMMANDS.on("gpu1", "systemctl start 'a b'")
    assert command.endswith(""" -i mine gpu1 -b -m shell -a 'systemctl start '"'"'a b'"'"''""")
    assert COMMANDS.playbook("site.yml").endswith("-i mine ansible/site.yml -e service_stack=hosts")
