"""The table of faults that ``assist doctor`` names. ``docs/faults.md`` is made from it; tests inject each.

A fault that ``follows`` another one is a symptom where both are found: it is folded under its cause.
"""

from dataclasses import dataclass
from typing import Literal

Area = Literal["processes", "model", "network", "configuration", "capacity", "answers"]
Target = Literal["local", "hosts"]
TARGETS: tuple[Target, ...] = ("local", "hosts")
LOCAL: tuple[Target, ...] = ("local",)
HOSTS: tuple[Target, ...] = ("hosts",)
BOTH = TARGETS


@dataclass(frozen=True)
class Fault:
    """One kind of fault: ``what`` is wrong, and what ``mends`` it in general; a finding has the command.

    Attributes:
        targets: where it is found, and where a test injects it.
        follows: the faults it is a symptom of, the likeliest first.
        across: whether it is also a symptom of a fault on another host.

    """

    name: str
    area: Area
    what: str
    mends: str
    targets: tuple[Target, ...]
    follows: tuple[str, ...] = ()
    across: bool = False


# What keeps a process from running, the deepest cause first.
_DEEP = (
    "host-unreachable", "service-down", "supervisor-lost", "disk-full", "environment-missing",
    "model-missing", "model-damaged", "stack-unreadable", "secret-missing", "port-taken", "clock-off",
    "unit-edited", "settings-edited",
)  # fmt: skip
_STOPPED = (*_DEEP, "process-stopped", "process-hung", "process-crashing")
_SILENT = (*_STOPPED, "update-interrupted", "path-blocked")

FAULTS = (
    # processes
    Fault("service-down", "processes", "no process of the service runs", "`make up`", LOCAL),
    Fault(
        "supervisor-lost", "processes",
        "the supervisor has ended and its processes run on: nothing restarts them, and they hold their ports",
        "`make up` ends them and starts anew", LOCAL,
    ),
    Fault(
        "process-stopped", "processes", "a process or unit was stopped, and nothing starts it", "start it",
        BOTH, _DEEP,
    ),
    Fault(
        "process-crashing", "processes",
        "a process ends again and again; the finding quotes the line of its log that says why",
        "correct what the line names, then start it", BOTH, _DEEP,
    ),
    Fault(
        "process-hung", "processes", "a process runs and does not answer: suspended, or stuck",
        "kill it; its supervisor starts it again", BOTH, ("disk-full",),
    ),
    Fault(
        "port-taken", "processes", "another program holds a port of the service",
        "stop that program, or choose another port in the stack", BOTH,
    ),
    Fault(
        "version-old", "processes", "a process runs older code or settings than what is installed",
        "`make up`; on hosts: `update.yml`", BOTH,
        ("model-missing", "update-interrupted", "unit-edited", "settings-edited"),
    ),
    Fault(
        "update-interrupted", "processes",
        "an update ended half way: a server is still drained, so that gateways send it nothing",
        "`update.yml` again", HOSTS,
    ),
    Fault(
        "unit-disabled", "processes", "a unit runs, but would not start at the next boot", "enable it", HOSTS,
    ),
    Fault(
        "environment-missing", "processes", "the programs' virtual environment was removed or is incomplete",
        "`make up`; on hosts: `site.yml`", BOTH,
    ),
    # model
    Fault(
        "model-missing", "model", "the served model is not in the store, or its link is broken",
        "`make up`; on hosts: `site.yml`", BOTH,
    ),
    Fault(
        "model-damaged", "model", "a file of the model was cut, or its bytes are not those of its checksum",
        "`model-loader verify --repair`, which downloads or converts again, then a restart", BOTH,
    ),
    # network
    Fault(
        "host-unreachable", "network", "a host of the inventory cannot be reached by SSH",
        "start the host, or remove it from the inventory", HOSTS,
    ),
    Fault(
        "firewall-missing", "network", "the host's firewall table is gone: every port is open",
        "load it again", HOSTS,
    ),
    Fault(
        "firewall-differs", "network", "the running firewall rules are not those of the stack",
        "load them again", HOSTS, ("unit-edited", "settings-edited", "stack-not-applied"),
    ),
    Fault(
        "path-blocked", "network", "a server listens, but another host of the service cannot reach it",
        "open the path: a firewall on the way, or the network", HOSTS,
        ("disk-full", "firewall-differs", "process-stopped", "process-hung", "process-crashing"),
    ),
    Fault("tls-expired", "network", "the certificate has expired", "renew it", HOSTS, ("clock-off",)),
    Fault(
        "tls-not-yet-valid", "network", "the certificate is not valid yet", "make it anew, or set the clock",
        HOSTS, ("clock-off",),
    ),
    Fault(
        "tls-wrong-name", "network", "the certificate is for another name or address than clients use",
        "make it anew", HOSTS,
    ),
    Fault(
        "clock-off", "network", "a host's clock differs from this machine's by more than 30 s",
        "let the host set its clock (`timedatectl set-ntp true`)", HOSTS,
    ),
    # configuration
    Fault(
        "stack-unreadable", "configuration", "the stack file of the service cannot be read",
        "correct the file", LOCAL,
    ),
    Fault(
        "keys-damaged", "configuration", "the file of API keys is not valid: every key is refused",
        "`assist keys repair`; on hosts: `site.yml`, which writes it again", BOTH,
    ),
    Fault(
        "keys-missing", "configuration", "there is no valid API key",
        "`make up`; on hosts: `site.yml`", BOTH,
    ),
    Fault(
        "keys-open", "configuration", "other users can read the API keys", "`chmod`", BOTH,
    ),
    Fault(
        "secret-missing", "configuration", "a file with a password that a unit loads is not there",
        "`site.yml`", HOSTS,
    ),
    Fault(
        "settings-edited", "configuration", "a file of settings was edited by hand", "write it again", BOTH,
        ("disk-full",),
    ),
    Fault("unit-edited", "configuration", "a unit was edited by hand", "`site.yml` writes it again", HOSTS),
    Fault(
        "stack-not-applied", "configuration", "the stack file has changed since the hosts were set up",
        "`update.yml`", HOSTS, ("settings-edited", "unit-edited"),
    ),
    Fault(
        "change-interrupted", "configuration", "a change of the running service was interrupted half way",
        "`make up`: it first goes back to what served", LOCAL,
    ),
    Fault(
        "change-failed", "configuration", "the last change failed, and what served before was kept",
        "correct the cause that the finding names", LOCAL,
    ),
    # capacity
    Fault(
        "disk-full", "capacity", "a file system that the service writes to is full or read-only",
        "make room; the finding names the folder", BOTH,
    ),
    Fault("disk-low", "capacity", "less than 1 GiB is free", "make room", BOTH, ("disk-full",)),
    # answers
    Fault(
        "engine-not-ready", "answers", "Triton does not answer, or has not loaded its model",
        "see its log", BOTH, _STOPPED,
    ),
    Fault(
        "gateway-not-ready", "answers", "a gateway does not answer, or reaches no engine",
        "see its log", BOTH,
        (*_SILENT, "engine-not-ready"), across=True,
    ),
    Fault(
        "completion-fails", "answers", "a real completion fails", "see the logs", BOTH,
        (*_SILENT, "tls-expired", "tls-not-yet-valid", "tls-wrong-name", "keys-damaged", "keys-missing",
         "engine-not-ready", "gateway-not-ready"), across=True,
    ),
    Fault(
        "log-errors", "answers", "a log has recent errors", "`assist logs`", LOCAL,
        (*_SILENT, "keys-damaged", "engine-not-ready", "gateway-not-ready", "completion-fails"),
    ),
)  # fmt: skip
BY_NAME = {fault.name: fault for fault in FAULTS}
