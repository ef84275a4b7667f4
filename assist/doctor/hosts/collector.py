"""What the doctor reads of one host, as JSON on standard output; it changes nothing.

It runs on the host with Debian's own Python, behind ``asking.py`` and as one program with it. The first
argument is the host's resolved stack (``assist.hosts.role_vars``); standard input has the key for a
completion. What this user may not read is listed in ``denied``; the doctor then reads again as root.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from assist.doctor.hosts.asking import Asking, Facts

_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts", "NeedDaemonReload",
    "DropInPaths", "StateChangeTimestamp", "StateChangeTimestampMonotonic",
    "MainPID", "ControlGroup", "MemoryMax", "ExecMainStatus",
)  # fmt: skip
# A unit that was restarted so often, and runs for less than so many seconds, is in a loop.
_ENDS, _LOOP_S = 2, 30.0
_REVISION = re.compile(r"[0-9a-f]{16}\.[0-9a-f]{16}")


class Collector(Asking):
    """The facts of this host."""

    def facts(self) -> Facts:
        """Return everything; the slow questions are asked at the same time."""
        questions = {
            "units": self.units, "http": self.http, "reach": self.reach, "tls": self.tls, "model": self.model,
            "completion": self.completion, "listening": self.listening, "firewall": self.firewall,
            "disks": self.disks, "files": self.keys, "drained": self.drained,
            "environments": self.environments, "settings": self.settings,
        }  # fmt: skip
        before = time.time()
        with ThreadPoolExecutor(len(questions)) as pool:
            asked = {name: pool.submit(question) for name, question in questions.items()}
            found = {name: answer.result() for name, answer in asked.items()}
        return {**found, "time": before, "denied": sorted(set(self.denied))}

    def unit_names(self) -> list[str]:
        """Return the units that run on this host."""
        names = ["ai-assist-firewall.service"] if self.service["firewall"]["enabled"] else []
        if self.service["monitoring"]["enabled"]:
            names.append("ai-assist-node-exporter.service")
        if "queue" in self.groups:
            names += [f"ai-assist-redis-{one}.service" for one in self._redis()]
        if "gpu" in self.groups:
            names += ["ai-assist-triton.service"] if self.service["needs_triton"] else []
            worker = self.service["queue_worker"]
            instances = worker["instances"] if worker["enabled"] else []
            names += [f"ai-assist-worker@{one}.service" for one in instances]
        if "gateway" in self.groups:
            names += [f"ai-assist-gateway@{one['port']}.service" for one in self.gateways()]
            names.append("ai-assist-nginx.service")
        return names

    def _redis(self) -> list[str]:
        return ["cache", "queue"] if self.service["redis"]["cache"] else ["queue"]

    def units(self) -> Facts:
        """Return the state of each unit, and whether what it reads is as Ansible wrote it."""
        return {name: self.unit(name) for name in self.unit_names()}

    def unit(self, name: str) -> Facts:
        """Return systemd's properties of a unit, what it was started from, and what was edited."""
        command = ["systemctl", "show", name, *(f"-p{one}" for one in _PROPERTIES)]
        shown: Facts = dict(line.split("=", 1) for line in _run(command).splitlines() if "=" in line)
        file = f"/etc/systemd/system/{re.sub('@[^.]*', '@', name)}"
        record = f"/run/ai-assist/{name}"
        text, stamp = self.read(file) or "", self.read(record)
        written = (_REVISION.search(text) or [""])[0]
        parts = written.partition(".")
        shown |= {
            "file": file,
            "written": written,
            "started": None if record in self.denied else (stamp or "").strip(),
            "unit_edited": _digest(_REVISION.sub("@REVISION@", text), "") != parts[0],
            "files_edited": self.files_edited(name, parts[2]),
            "suspended": _suspended(shown.get("ControlGroup", "")),
        }
        up = time.clock_gettime(time.CLOCK_MONOTONIC)
        shown["loops"] = (
            int(shown.get("NRestarts") or 0) >= _ENDS
            and up - int(shown.get("StateChangeTimestampMonotonic") or 0) / 1e6 < _LOOP_S
        )
        if shown.get("ActiveState") != "active" or shown["suspended"] or shown["loops"]:
            shown["journal"] = self._journal(name)
        return shown

    def _journal(self, name: str) -> list[str]:
        """Return what a unit said since the start before its last one: the last may have said nothing yet."""
        command = ["journalctl", "--unit", name, "--lines=60", "--output=cat", "--no-pager", "--quiet"]
        lines = _run(command).splitlines()
        starts = [number for number, line in enumerate(lines) if line.startswith("Starting ai-assist-")]
        return lines[starts[-2] if len(starts) > 1 else 0 :]

    def files_edited(self, name: str, written: str) -> bool | str:
        """Return whether the files that a unit reads differ from what was written, or why not known."""
        found = self.files_digest(name)
        return found if found == "unread" or " " in found else bool(written) and found != written

    def files_digest(self, name: str) -> str:
        """Return the digest of the files that a unit reads, as ``service_unit`` makes it."""
        found = []
        for path, mode, kind in self.unit_files(name):
            text = self.read(path) if kind == "file" else ""
            if text is None:
                return "unread" if path in self.denied else f"missing {path}"
            found.append([path, text, mode])
        return _digest(found)

    def unit_files(self, name: str) -> list[tuple[str, str | None, str]]:
        """Return path, mode and kind of each file that a unit reads, in the order of its role."""
        config, secrets = self.config, self.folders["secrets"]
        kind = name.removeprefix("ai-assist-").partition(".")[0].partition("@")[0]
        url = [("assist_redis_url", "gateway"), ("assist_jobs_redis_url", "gateway")]
        if kind == "firewall":
            return [(f"{config}/firewall.nft", "0600", "file")]
        if kind.startswith("redis-"):
            folder, one = f"{config}/redis", kind.removeprefix("redis-")
            return [(f"{folder}/{one}.conf", "0640", "file"), (f"{folder}/{one}.acl", "0640", "file")]
        if kind == "nginx":
            return [(f"{config}/nginx.conf", None, "file")]
        if kind == "gateway":
            own = [(one["path"], None, "file") for one in self.service["gateway_server"]["files"]]
            return [
                (self.service["drained"], None, "absent"), (f"{config}/gateway.env", "0644", "file"), *own,
                (f"{secrets}/gateway", "0700", "folder"),
                *((f"{secrets}/{user}/{file}", "0600", "file") for file, user in url),
            ]  # fmt: skip
        if kind == "worker":
            own = [(one["path"], None, "file") for one in self.service["queue_worker"]["files"]]
            return [
                *own, (f"{config}/worker.env", None, "file"), (f"{secrets}/worker", "0700", "folder"),
                (f"{secrets}/worker/assist_jobs_redis_url", "0600", "file"),
            ]  # fmt: skip
        return []

    def model(self) -> Facts | None:
        """Return how the served model's files differ from their manifest."""
        if "gpu" not in self.groups or not self.service["needs_triton"]:
            return None
        os.nice(10)
        folder = Path(self.service["model_store"]["dir"])
        text = self.read(folder / "manifest.json")
        if text is None:
            return {"folder": str(folder), "missing": True, "faults": []}
        faults = []
        for file in json.loads(text)["files"]:
            path = folder / file["path"]
            try:
                faults += _differs(path, file, quick=self.service.get("quick", False))
            except PermissionError:
                self.denied.append(str(path))
            except OSError as error:
                faults.append([file["path"], error.strerror or "unreadable", 0.0])
        return {"folder": str(folder), "missing": False, "faults": faults}

    def listening(self) -> list[list[Any]]:
        """Return address, port and program of each TCP server."""
        rows = []
        for line in _run(["ss", "-Hltnp"]).splitlines():
            words = line.split()
            host, _, port = words[3].rpartition(":")
            program = re.search(r'\(\("([^"]+)",pid=(\d+)', line)
            rows.append(
                [
                    host.strip("[]").removeprefix("::ffff:"),
                    int(port),
                    program[1] if program else "",
                    int(program[2]) if program else 0,
                ]
            )
        return rows

    def firewall(self) -> Facts | None:
        """Return the sources of each port in the running rules; None where the table is missing."""
        if not self.service["firewall"]["enabled"]:
            return {}
        if os.geteuid():
            self.denied.append("nft list table inet ai_assist")
            return {}
        text = _run(["nft", "--json", "list", "table", "inet", "ai_assist"])
        if not text.strip():
            return None
        rules = [one["rule"]["expr"] for one in json.loads(text)["nftables"] if "rule" in one]
        found: dict[str, list[str]] = {}
        for rule in rules:
            matches = [one["match"] for one in rule if "match" in one]
            fields = {match["left"].get("payload", {}).get("field"): match["right"] for match in matches}
            if "dport" in fields and "saddr" in fields and any("accept" in one for one in rule):
                found.setdefault(str(fields["dport"]), []).extend(_ranges(fields["saddr"]))
        return {port: sorted(ranges) for port, ranges in found.items()}

    def disks(self) -> Facts:
        """Return the room of each folder that the service writes to; only root sees what is left for all."""
        folders = {self.folders[name] for name in ("programs", "state", "config", "models")} | {"/var/log"}
        if "queue" in self.groups:
            folders.add(f"{self.folders['state']}/redis-queue")
        found: Facts = {}
        for folder in sorted(folders):
            with contextlib.suppress(OSError):
                room = os.statvfs(folder)
                found[folder] = {
                    "free": room.f_bavail * room.f_frsize,
                    "inodes": room.f_favail if room.f_files else None,
                    "read_only": bool(room.f_flag & os.ST_RDONLY),
                    "device": Path(folder).stat().st_dev,
                }
        return found

    def keys(self) -> Facts:
        """Return whether keys and secrets are there, whose they are, and whether the keys are valid."""
        if "gateway" not in self.groups:
            return {}
        file = self.service["gateway_server"]["keys_file"]
        if self.service["verify"]["auth"] != "keys":
            return {}
        found = {"path": file, "missing": False, "mode": 0, "valid": True, "count": 0, "since": 0.0}
        try:
            facts = Path(file).stat()
        except PermissionError:
            self.denied.append(file)
            return {}
        except OSError:
            return found | {"missing": True}
        found |= {"mode": stat.S_IMODE(facts.st_mode), "since": facts.st_mtime}
        text = self.read(file)
        try:
            records = json.loads(text or "")["keys"]
            return found | {"count": sum(one.get("revoked") is None for one in records)}
        except (ValueError, KeyError, TypeError, AttributeError):
            return found | {"valid": text is None}

    def drained(self) -> Facts | None:
        """Return the servers that gateways send nothing to, and since when."""
        path = self.service["drained"]
        text = self.read(path)
        return {"path": path, "servers": text.split(), "since": Path(path).stat().st_mtime} if text else None

    def environments(self) -> list[str]:
        """Return the virtual environments whose interpreter is missing."""
        names = self.service["release"]["locks"]
        folder = self.folders["venvs"]
        return [f"{folder}/{name}" for name in names if not os.access(f"{folder}/{name}/bin/python", os.X_OK)]

    def settings(self) -> Facts:
        """Return what differs between the stack and what this host was set up with."""
        found: Facts = {"release": [], "model": "", "environment": []}
        for name in ("triton.service", "gateway@.service", "worker@.service"):
            unit = self.read(f"/etc/systemd/system/ai-assist-{name}") or ""
            found["release"] += re.findall(r"/releases/([0-9a-f]{12})/", unit)[:1]
            if model := re.search(r"--model-dir=(\S+)", unit):
                found["model"] = model[1]
        if "gateway" in self.groups and (text := self.read(f"{self.config}/gateway.env")):
            entries = shlex.split(text, comments=True)
            now = dict(entry.split("=", 1) for entry in entries if "=" in entry)
            wanted = {
                name: str(value) for name, value in self.service["gateway_server"]["environment"].items()
            }
            found["environment"] = sorted(
                n for n in now.keys() | wanted.keys() if now.get(n) != wanted.get(n)
            )
        return found


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _run(command: list[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=30
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _suspended(group: str) -> list[int]:
    """Return the processes of a control group that were stopped by a signal or a debugger."""
    held = []
    with contextlib.suppress(OSError):
        for pid in Path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split() if group else ():
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            held += [int(pid)] if state in "Tt" else []
    return held


def _differs(path: Path, file: Facts, *, quick: bool) -> list[list[Any]]:
    facts = path.stat()
    if facts.st_size != file["size"]:
        return [[file["path"], f"{facts.st_size} bytes, {file['size']} expected", facts.st_mtime]]
    if quick:
        return []
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            total.update(block)
    found = total.hexdigest()
    return [] if found == file["sha256"] else [[file["path"], f"sha256 {found}, {file['sha256']} expected",
                                               facts.st_mtime]]  # fmt: skip


def _ranges(right: Any) -> list[str]:  # noqa: ANN401 -- any part of nft's JSON
    """Return the addresses of a rule's source in the notation of the stack."""
    if isinstance(right, dict) and "set" in right:
        return [text for one in right["set"] for text in _ranges(one)]
    if isinstance(right, dict) and "prefix" in right:
        return [f"{right['prefix']['addr']}/{right['prefix']['len']}"]
    if isinstance(right, dict) and "range" in right:
        return ["-".join(right["range"])]
    return [str(right)]


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(Collector(given, sys.stdin.read().strip()).facts()))  # noqa: T201 -- its result
