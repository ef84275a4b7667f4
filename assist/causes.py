"""Why a program does not run: one sentence of cause and one of remedy, from its log and from its end."""

import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_REPAIR = "make down && .run/bin/model-loader verify --repair && make up"
_MEMORY = "Stop other programs, or choose a smaller model, precision, context_length or number of slots"
_KILLED = "was killed (SIGKILL), most likely because memory ran out"
_SIGKILL = -9


@dataclass(frozen=True)
class Cause:
    """One sentence without its full stop, and what to do.

    ``fault`` is its name in the table of faults (``assist.doctor.faults``), ``line`` what the log says.
    """

    text: str
    remedy: str
    fault: str = "process-crashing"
    line: str = ""


@dataclass(frozen=True)
class _Rule:
    """A line that names a cause; ``text`` gets the groups of ``pattern``."""

    pattern: re.Pattern[str]
    text: str
    remedy: str
    fault: str


def _rule(pattern: str, text: str, remedy: str, fault: str = "process-crashing") -> _Rule:
    return _Rule(re.compile(pattern), text, remedy, fault)


# From the particular to the general: the first rule that any line of the last start matches wins.
_RULES = (
    _rule(
        r"failed to start \w+ service: .*Socket '(?P<address>[^']+)' already in use",
        "{address} is already in use by another program",
        "Stop that program, or choose another port in the stack file, such as triton: {{grpc_port: 8011}}",
        "port-taken",
    ),
    _rule(
        r"attempting to bind on address \('(?P<host>[^']+)', (?P<port>\d+)\)",
        "port {port} of {host} is already in use by another program",
        "Stop that program, or choose another port: make up PORT=5100",
        "port-taken",
    ),
    _rule(
        r"(?P<why>can't start new thread|[Cc]annot allocate memory|std::bad_alloc|MemoryError"
        r"|out of memory|unable to allocate \S+ buffer)",
        "memory ran out while the model was loaded ({why})",
        _MEMORY,
    ),
    _rule(
        r"Stub process '\S+ is not healthy",
        "a process of the engine ended while it loaded the model, most likely because memory ran out",
        _MEMORY,
    ),
    _rule(
        r"(?P<why>(?:error loading model: |[^:]*)(?:invalid payload size|invalid magic"
        r"|corrupted or incomplete|not within the file bounds|unexpected end|InvalidProtobuf"
        r"|Unsupported model binary version)[^\"\\]*)",
        "the model's files are damaged ({why})",
        _REPAIR,
        "model-damaged",
    ),
    _rule(
        r"error loading model: (?:error loading model \w+: )?(?P<why>.+)",
        "llama.cpp cannot load the model ({why})",
        "Get the model's file again, or choose another model; for every line: assist logs {log}",
    ),
    _rule(
        r"failed to load '\S+' version \d+: (?:\w+: )?(?P<why>.+?)(?:\\n|\"|$)",
        "the engine cannot load the model: {why}",
        "Correct the stack file, or choose another model; for every line: assist logs {log}",
    ),
    _rule(
        r"Poll failed for model directory '[^']+': (?P<why>.+?)\"?$",
        "Triton cannot read its model repository: {why}",
        "make up",
    ),
    _rule(
        r"The gateway cannot start: (?P<why>.+)",
        "the gateway cannot start: {why}",
        "Correct that, then: make up",
    ),
    _rule(
        r"^error: (?P<why>(?!creating server: Internal - failed to load all).+)",
        "{why}",
        "Correct that, then: make up",
    ),
    _rule(r"^(?P<why>[\w.]*(?:Error|Exception|Exit)\b.*)", "{why}", "For every line: assist logs {log}"),
)  # fmt: skip
# Lines that begin a start; what is older belongs to another one.
_STARTS = ("pinned_memory_manager.cc", "Started server process")
_SERVES = ("Started GRPCInferenceService", "Application startup complete")


def of(log: Path, *, code: int | None = None) -> Cause | None:
    """Return why the program that writes ``log`` ended or does not start; None where nothing says so.

    ``code`` is its exit status, negative for a signal. Only what follows the last success counts.
    """
    if found := _from(_last_start(_lines(log)), log.stem):
        return found
    if code == _SIGKILL:
        return Cause(f"{log.stem} {_KILLED}", _MEMORY)
    if code:
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return Cause(f"{log.stem} ended with {how} and said nothing", f"assist logs {log.stem}")
    return None


def ended(supervisord: Path, program: str) -> int | None:
    """Return the status with which ``program`` last ended, from supervisord's log; None if it never did."""
    signals = {"SIGKILL": -9, "SIGSEGV": -11, "SIGABRT": -6, "SIGTERM": -15}
    how = re.compile(
        rf"(?:exited|stopped): {program} \((?:terminated by (?P<signal>\w+)|exit status (?P<code>\d+))"
    )
    for line in reversed(_lines(supervisord)):
        if match := how.search(line):
            return signals.get(match["signal"], -1) if match["signal"] else int(match["code"])
    return None


def named(lines: list[str], log: str) -> Cause | None:
    """Return the cause that the last start of a program names in ``lines`` of its journal."""
    return _from(_last_start([text for line in lines for text in _plain(line)]), log)


def is_success(line: str) -> bool:
    """Return whether a log's line says that the program has begun to serve."""
    return _has(line, _SERVES)


def serves(log: Path) -> bool:
    """Return whether the program that writes ``log`` has begun to serve since it was started last."""
    lines = _lines(log)
    begun = max((i for i, line in enumerate(lines) if _has(line, _STARTS)), default=-1)
    return any(is_success(line) for line in lines[begun + 1 :])


def crashes(supervisord: Path, program: str, within_s: float) -> int:
    """Return how often ``program`` ended by itself in the last ``within_s`` seconds."""
    found = re.compile(rf"^(\S+ \S+),\d+ WARN exited: {program} \(")
    times = [match[1] for line in _lines(supervisord) if (match := found.match(line))]
    since = time.time() - within_s
    return sum(time.mktime(time.strptime(one, "%Y-%m-%d %H:%M:%S")) > since for one in times)


def tail(log: Path, limit: int = 64 * 1024) -> list[str]:
    """Return the last lines of a log, at most ``limit`` bytes of them."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
        return file.read().decode("utf-8", "replace").splitlines()


def _lines(log: Path) -> list[str]:
    return [text for line in (tail(log) if log.exists() else []) for text in _plain(line)]


def _plain(line: str) -> Iterable[str]:
    """Return the text of a log line in any of the programs' formats; a traceback ends with its reason."""
    if line.startswith("{"):
        try:
            line = str(json.loads(line).get("event", ""))
        except ValueError:
            return [line]
        return line.replace("\\n", "\n").splitlines()
    return [] if line.startswith(("|", "+")) else [line]  # Triton repeats what it has said in tables


def _last_start(lines: list[str]) -> list[str]:
    """Return the lines since the last success; only those of the last start where they name a cause."""
    served = max((i for i, line in enumerate(lines) if _has(line, _SERVES)), default=-1)
    lines = lines[served + 1 :]
    begun = max((i for i, line in enumerate(lines) if _has(line, _STARTS)), default=0)
    return lines[begun:] if _from(lines[begun:], log="") else lines


def _has(line: str, marks: tuple[str, ...]) -> bool:
    return any(mark in line for mark in marks)


def _from(lines: list[str], log: str) -> Cause | None:
    for rule in _RULES:
        for position in range(len(lines) - 1, -1, -1):
            if match := rule.pattern.search(lines[position]):
                groups = {
                    name: _tidy(text, lines[position + 1 :]) for name, text in match.groupdict().items()
                }
                text, remedy = rule.text.format(**groups), rule.remedy.format(log=log)
                return Cause(text, remedy, rule.fault, lines[position].strip()[:300])
    return None


def _tidy(text: str, following: list[str]) -> str:
    """Return one line; of pydantic's report, the setting and what is wrong with it."""
    if "validation error" in text and len(following) > 1:
        return f"{following[0].strip()}: {following[1].split('[type=')[0].strip()}"
    sentence = re.sub(r"\s+", " ", text).strip().split(". ")[0]
    return sentence.rstrip(".")[:300]
