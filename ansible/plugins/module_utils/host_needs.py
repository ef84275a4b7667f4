"""What a host must be before anything on it is touched: pure, so every refusal is tested without a host."""

import re
from collections.abc import Iterator
from typing import Any

# Ubuntu 22.04 is not among them: its Redis 6.0 has no lists of channels a user may use.
SYSTEMS = {"debian": ("12", "13"), "ubuntu": ("24.04",)}
ARCHITECTURES = ("x86_64", "aarch64")
# A unit of ours may hold a port that we want: it is the service that is there already.
OURS = "ai-assist-"


def problems(seen: dict[str, Any], needs: dict[str, Any]) -> list[str]:
    """Return why a host can't serve, each with the remedy; empty when it can."""
    return [*_system(seen), *_resources(seen, needs), *_gpus(seen, needs), *_ports(seen, needs)]


def _system(seen: dict[str, Any]) -> Iterator[str]:
    if seen["version"] not in SYSTEMS.get(seen["os"], ()):
        known = ", ".join(f"{name} {' or '.join(versions)}" for name, versions in SYSTEMS.items())
        yield f"runs {seen['os'] or 'an unknown system'} {seen['version']}; install one of: {known}"
    if seen["arch"] not in ARCHITECTURES:
        yield f"is {seen['arch']}, for which Triton has no build; use {' or '.join(ARCHITECTURES)}"
    if not seen["systemd"]:
        yield "was not booted with systemd, which runs the services; use a real host or a booted container"


def _resources(seen: dict[str, Any], needs: dict[str, Any]) -> Iterator[str]:
    if _numbers(seen["kernel"]) < _numbers(needs["kernel"]):
        yield f"runs kernel {seen['kernel']}, but {needs['kernel']} is needed; upgrade it and reboot"
    if seen["memory_gib"] < needs["memory_gib"]:
        yield (
            f"has {seen['memory_gib']:.1f} GiB of memory, but {needs['memory_gib']:.1f} are needed;"
            " add memory, or lower hosts.requirements.memory_gib if you know better"
        )
    for folder, wanted in needs["disk_gib"].items():
        free = seen["disk_gib"][folder]
        if free < wanted:
            yield (
                f"has {free:.1f} GiB free for {folder}, but {wanted:.1f} are needed;"
                " free some, or name a folder on another disk in hosts.folders"
            )


def _gpus(seen: dict[str, Any], needs: dict[str, Any]) -> Iterator[str]:
    if seen["gpus"] < needs["gpus"]:
        yield (
            f"shows {seen['gpus']} GPUs (/dev/nvidia*), but the stack wants {needs['gpus']}; install"
            " the driver, lower accelerator.count, or set accelerator.kind: cpu"
        )
    elif needs["driver"] and _numbers(seen["driver"]) < _numbers(needs["driver"]):
        yield (
            f"has NVIDIA driver {seen['driver'] or 'none'}, but {needs['driver']} or later is needed;"
            " install it and reboot"
        )


def _ports(seen: dict[str, Any], needs: dict[str, Any]) -> Iterator[str]:
    for port, use in needs["ports"].items():
        holder = seen["listening"].get(port)
        if holder and OURS not in holder:
            yield f"port {port} ({use}) is taken by {holder}; stop that, or give {use} another in the stack"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
