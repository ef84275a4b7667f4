"""The units of a host: stopped, crashing, hung, edited, outdated."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from assist import causes
from assist.doctor.hosts.facts import Facts, Host, Site
from assist.doctor.logs import iso
from assist.findings import Finding

# What systemd, NGINX and Redis say, by fault; the engine's and the gateway's lines are in `assist.causes`.
_SAID = (
    ("secret-missing", r"Failed (?:to set up credentials|at step CREDENTIALS)", "a password is missing"),
    ("environment-missing", r"Failed at step EXEC spawning \S+/venvs/", "its virtual environment is missing"),
    ("disk-full", r".*No space left on device.*", "the disk is full"),
    ("disk-full", r".*Read-only file system.*", "a file system is read-only"),
    ("port-taken", r"(?:[Aa]ddress )?already in use", "its port is in use by another program"),
)  # fmt: skip


def check(site: Site, host: Host) -> list[Finding]:
    """Check each unit of ``host``."""
    found: list[Finding] = []
    for name, unit in host.units.items():
        edits = list(_edits(site, host, name, unit))
        # The instances of one template read the same files: what was edited is told once.
        told = {(one.fault, one.where.partition("@")[0]) for one in found}
        found += [one for one in edits if (one.fault, one.where.partition("@")[0]) not in told]
        found += _unit(site, host, name, unit, edited=bool(edits))
    return found


def _unit(site: Site, host: Host, name: str, unit: Facts, *, edited: bool) -> Iterator[Finding]:
    short = name.removesuffix(".service")
    if unit.get("LoadState") == "not-found":
        cause = f"{short} is not installed"
        yield _wrong(host, name, unit, "process-stopped", cause, site.commands.playbook("site.yml"))
        return
    state = _state(site, host, name, unit)
    if state is not None:
        yield state
    if state is not None or edited:
        return
    if unit["started"] not in {unit["written"], None}:
        cause = f"{short} runs from other content than is on disk: a change was written and not activated"
        yield _wrong(
            host, name, unit, "version-old", cause, site.commands.on(host.name, f"systemctl restart {short}")
        )
    elif unit["UnitFileState"] != "enabled":
        cause = (
            f"{short} runs and is {unit['UnitFileState'] or 'not enabled'}: the next boot does not start it"
        )
        yield _wrong(
            host, name, unit, "unit-disabled", cause, site.commands.on(host.name, f"systemctl enable {short}")
        )
    else:
        yield host.ok(f"unit {short}", f"{short} runs")


def _state(site: Site, host: Host, name: str, unit: Facts) -> Finding | None:
    """Return why a unit does not serve; None where it runs or is just starting."""
    short = name.removesuffix(".service")
    if unit["suspended"]:
        pids = " ".join(map(str, unit["suspended"]))
        kill = f"systemctl kill --kill-whom=all --signal=KILL {short}; systemctl start {short}"
        cause = f"{short} is suspended (process {pids}) and answers nothing"
        return _wrong(host, name, unit, "process-hung", cause, site.commands.on(host.name, kill))
    state, sub = unit["ActiveState"], unit["SubState"]
    # Of a main process that ends while the unit waits for its answer, systemd tells when that wait ends.
    dead = unit["loops"] or sub.startswith("auto-restart") or (sub == "start-post" and unit["MainPID"] == "0")
    if state in {"active", "reloading", "activating"} and not dead:
        return None
    start = site.commands.on(host.name, f"systemctl reset-failed {short}; systemctl restart {short}")
    if state == "inactive" and unit["Result"] == "success" and unit["LoadState"] != "masked":
        start = site.commands.on(host.name, f"systemctl start {short}")
        return _wrong(host, name, unit, "process-stopped", f"{short} was stopped", start)
    if unit["LoadState"] == "masked":
        command = f"systemctl unmask {short} && systemctl enable --now {short}"
        return _wrong(
            host, name, unit, "process-stopped", f"{short} is masked", site.commands.on(host.name, command)
        )
    return _crashed(site, host, name, unit, start)


def _crashed(site: Site, host: Host, name: str, unit: Facts, start: str) -> Finding:
    short, lines = name.removesuffix(".service"), unit.get("journal", [])
    ended = f"{short} has ended" if unit["ActiveState"] == "failed" else f"{short} ends again and again"
    if unit["Result"] == "oom-kill":
        cause = f"{ended}: it was killed because its memory limit ({unit['MemoryMax']} bytes) was reached"
        return _wrong(host, name, unit, "process-crashing", cause, start)
    for fault, pattern, words in _SAID:
        if line := next((one for one in reversed(lines) if re.search(pattern, one)), ""):
            remedy = _remedy(site, host, name, fault, line) or start
            cause = f"{ended}: {words}"
            # A full disk, an environment and a secret have checks of their own; this is what follows.
            named = fault if fault == "port-taken" else "process-crashing"
            return _wrong(host, name, unit, named, cause, remedy, line)
    found = causes.named(lines, short.removeprefix("ai-assist-"))
    fault = found.fault if found and found.fault == "port-taken" else "process-crashing"
    cause = (
        f"{ended}: {found.text}" if found else f"{ended} ({unit['Result']}, status {unit['ExecMainStatus']})"
    )
    return _wrong(host, name, unit, fault, cause, start, found.line if found else "\n".join(lines[-1:]))


def _remedy(site: Site, host: Host, name: str, fault: str, line: str) -> str:
    """Return the command for a port that another program holds: stop its unit or process, then start ours."""
    if fault != "port-taken":
        return ""
    short, own = name.removesuffix(".service"), _programs(host)
    ports = {int(number) for number in re.findall(r":(\d{2,5})\b", line)}
    for address, port, program, pid in host.facts["listening"]:
        if port in ports and pid not in own:
            command = f"kill {pid}; sleep 1; systemctl reset-failed {short}; systemctl restart {short}"
            return site.commands.on(host.name, command) + f"  # {program} holds {address}:{port}"
    return ""


def _programs(host: Host) -> set[int]:
    return {int(unit["MainPID"] or 0) for unit in host.units.values()} - {0}


def _edits(site: Site, host: Host, name: str, unit: Facts) -> Iterator[Finding]:
    if unit.get("LoadState") == "not-found":
        return
    short = name.removesuffix(".service")
    dropins = [one for one in unit["DropInPaths"].split() if one.startswith("/etc/")]
    if unit["unit_edited"]:
        cause = f"{unit['file']} was edited by hand"
        yield _wrong(host, name, unit, "unit-edited", cause, site.commands.playbook("site.yml"))
    elif dropins:
        files = " ".join(dropins)
        command = f"rm {files} && systemctl daemon-reload && systemctl restart {short}"
        cause = f"{short} is changed by {files}, which the stack does not have"
        yield _wrong(host, name, unit, "unit-edited", cause, site.commands.on(host.name, command))
    elif unit["NeedDaemonReload"] == "yes":
        command = f"systemctl daemon-reload && systemctl restart {short}"
        cause = f"{unit['file']} has changed, and systemd has not read it again"
        yield _wrong(host, name, unit, "version-old", cause, site.commands.on(host.name, command))
    edited = unit["files_edited"]
    if isinstance(edited, str) and edited.startswith("missing"):
        path = edited.partition(" ")[2]
        fault = "secret-missing" if path.startswith(host.service["folders"]["secrets"]) else "settings-edited"
        cause = f"{path}, which {short} reads, is missing"
        yield _wrong(host, name, unit, fault, cause, site.commands.playbook("site.yml"))
    elif edited is True:
        cause = f"a file that {short} reads was edited by hand"
        yield _wrong(host, name, unit, "settings-edited", cause, site.commands.playbook("site.yml"))


def _wrong(
    host: Host, name: str, unit: Facts, fault: str, cause: str, remedy: str, evidence: str = ""
) -> Finding:
    short = name.removesuffix(".service")
    since = _time(unit.get("StateChangeTimestamp", ""))
    return host.wrong(f"unit {short}", fault, cause, remedy, where=short, since=since, evidence=evidence)


def _time(text: str) -> str:
    """Return systemd's time (``Sun 2026-11-29 19:30:00 UTC``) in ISO 8601; empty for another zone."""
    match = re.fullmatch(r"\w+ (\S+ \S+) UTC", text)
    if match is None:
        return ""
    began = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return iso(began.timestamp())
