"""Compare a host with what the service requires; pure, so that every refusal is tested without a host."""

import re
from collections.abc import Iterator
from typing import Any

# Without Ubuntu 22.04: its Redis 6.0 has no ACL rules for channels.
SYSTEMS = {"debian": ("12", "13"), "ubuntu": ("24.04",)}
ARCHITECTURES = ("x86_64", "aarch64")
# A port that a unit of this name holds belongs to the service itself, from an earlier run.
OWN_UNITS = "ai-assist-"


def problems(facts: dict[str, Any], requirements: dict[str, Any]) -> list[str]:
    """Return why a host cannot run the service, each with the remedy; empty when it can."""
    return [
        *_system(facts),
        *_resources(facts, requirements),
        *_gpus(facts, requirements),
        *_ports(facts, requirements),
    ]


def _system(facts: dict[str, Any]) -> Iterator[str]:
    if facts["version"] not in SYSTEMS.get(facts["os"], ()):
        supported = ", ".join(f"{name} {' or '.join(versions)}" for name, versions in SYSTEMS.items())
        yield f"runs {facts['os'] or 'an unknown system'} {facts['version']}; install one of: {supported}"
    if facts["arch"] not in ARCHITECTURES:
        yield f"is {facts['arch']}, for which Triton has no build; use {' or '.join(ARCHITECTURES)}"
    if not facts["systemd"]:
        yield "was not booted with systemd, which runs the services; use a real host or a booted container"


def _resources(facts: dict[str, Any], requirements: dict[str, Any]) -> Iterator[str]:
    if _numbers(facts["kernel"]) < _numbers(requirements["kernel"]):
        yield (
            f"runs kernel {facts['kernel']}, but {requirements['kernel']} is required;"
            " upgrade the kernel and reboot"
        )
    if facts["memory_gib"] < requirements["memory_gib"]:
        yield (
            f"has {facts['memory_gib']:.1f} GiB of memory, but {requirements['memory_gib']:.1f} are required;"
            " add memory, lower context_length or serving.slots, or lower hosts.requirements.memory_gib where"
            " the stack sets it"
        )
    for folder, required in requirements["disk_gib"].items():
        free = facts["disk_gib"][folder]
        if free < required:
            yield (
                f"has {free:.1f} GiB free for {folder}, but {required:.1f} are required;"
                " free some space, or name a folder on another disk in hosts.folders"
            )


def _gpus(facts: dict[str, Any], requirements: dict[str, Any]) -> Iterator[str]:
    if facts["gpus"] < requirements["gpus"]:
        yield (
            f"shows {facts['gpus']} GPUs (/dev/nvidia*), but the stack uses {requirements['gpus']}; install"
            " the driver, lower accelerator.count, or set accelerator.kind: cpu"
        )
    elif requirements["driver"] and _numbers(facts["driver"]) < _numbers(requirements["driver"]):
        yield (
            f"has NVIDIA driver {facts['driver'] or 'none'}, but {requirements['driver']} or later is"
            " required; install it and reboot"
        )


def _ports(facts: dict[str, Any], requirements: dict[str, Any]) -> Iterator[str]:
    for port, use in requirements["ports"].items():
        holder = facts["listening"].get(port)
        if holder and OWN_UNITS not in holder:
            yield (
                f"port {port} ({use}) is in use by {holder};"
                " stop that program, or set another port in the stack"
            )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
