#!/usr/bin/python3
"""Runs in a lab's host as nvidia-smi, for the GPUs that /etc/lab/gpus.json names.

While /run/lab/nvidia-smi.fail exists, it fails as on a host without a loaded driver (the file says ``nodriver`` or is
empty), or with a driver of another version than the library's (``mismatch``).
"""

import json
import sys
from pathlib import Path
from typing import Any

Gpu = dict[str, Any]
GPUS, FAILURE = Path("/etc/lab/gpus.json"), Path("/run/lab/nvidia-smi.fail")
FAILURES = {
    "nodriver": (
        9,
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running.\n",
    ),
    "mismatch": (18, "Failed to initialize NVML: Driver/library version mismatch"),
}
UNITS = {
    "memory.total": " MiB", "memory.used": " MiB", "memory.free": " MiB", "utilization.gpu": " %",
    "utilization.memory": " %", "power.draw": " W", "power.limit": " W", "clocks.sm": " MHz",
}  # fmt: skip
# What every GPU answers, as it computes nothing.
IDLE: Gpu = {
    "memory.used": 4, "utilization.gpu": 0, "utilization.memory": 0, "temperature.gpu": 31, "power.draw": "68.10",
    "power.limit": "700.00", "persistence_mode": "Enabled", "compute_mode": "Default", "mig.mode.current": "Disabled",
    "ecc.mode.current": "Enabled", "ecc.errors.uncorrected.volatile.total": 0, "compute_cap": "9.0",
    "clocks.sm": 345, "serial": "0", "vbios_version": "96.00.30.00.01",
}  # fmt: skip
NO_DEVICE, BAD_ARGUMENT = 6, 2
SETTERS = {"-pm", "-mig", "-pl", "-c"}


def say(line: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{line}\n")


def values(gpu: Gpu, count: int) -> Gpu:
    """Return what --query-gpu can be asked of a GPU, by field."""
    return IDLE | {
        "index": gpu["index"], "name": gpu["name"], "gpu_name": gpu["name"], "uuid": gpu["uuid"],
        "gpu_uuid": gpu["uuid"], "pci.bus_id": "0000" + gpu["bus"].upper(), "driver_version": gpu["driver"],
        "memory.total": gpu["memory"], "memory.free": gpu["memory"] - IDLE["memory.used"], "count": count,
    }  # fmt: skip


def query(gpus: list[Gpu], fields: list[str], style: list[str]) -> int:
    """Print the fields of every GPU as comma-separated values; return the exit status."""
    known = values({"index": 0, "name": "", "uuid": "", "bus": "", "driver": "", "memory": 0}, 0)
    for field in fields:
        if field not in known:
            say(f'Field "{field}" is not a valid field to query.\n')
            return BAD_ARGUMENT
    if "noheader" not in style:
        say(", ".join(f"{name} [{UNITS[name].strip()}]" if name in UNITS else name for name in fields))
    for gpu in gpus:
        row = values(gpu, len(gpus))
        say(", ".join(f"{row[name]}{'' if 'nounits' in style else UNITS.get(name, '')}" for name in fields))
    return 0


def table(gpus: list[Gpu]) -> None:
    """Print what nvidia-smi prints without arguments, in short."""
    driver = gpus[0]["driver"]
    say(f"NVIDIA-SMI {driver}   Driver Version: {driver}   CUDA Version: 12.2   (lab stand-in)")
    for gpu in gpus:
        say(
            f"| {gpu['index']}  {gpu['name']}  On | {gpu['bus']} Off | 0 | 31C P0 68W / 700W"
            f" | 4MiB / {gpu['memory']}MiB | 0% Default |"
        )


def chosen(gpus: list[Gpu], arguments: list[str], options: dict[str, str]) -> list[Gpu]:
    """Return the GPUs that ``-i`` or ``--id`` picks, or all of them."""
    pick = options.get("--id") or (arguments[arguments.index("-i") + 1] if "-i" in arguments else None)
    return [gpu for gpu in gpus if pick in (None, str(gpu["index"]), gpu["uuid"], gpu["bus"])]


def main(arguments: list[str]) -> int:
    """Answer one call; return the exit status."""
    if FAILURE.exists():
        status, message = FAILURES[FAILURE.read_text().strip() or "nodriver"]
        say(message)
        return status
    options = dict(
        argument.split("=", 1) for argument in arguments if argument.startswith("--") and "=" in argument
    )
    gpus = chosen(json.loads(GPUS.read_text()), arguments, options)
    if not gpus:
        say("No devices were found")
        return NO_DEVICE
    if "-L" in arguments or "--list-gpus" in arguments:
        for gpu in gpus:
            say(f"GPU {gpu['index']}: {gpu['name']} (UUID: {gpu['uuid']})")
    elif "--query-gpu" in options:
        fields = [field.strip() for field in options["--query-gpu"].split(",")]
        return query(gpus, fields, options.get("--format", "csv").split(","))
    elif arguments and arguments[0] in SETTERS:
        for gpu in gpus:
            say(f"Set for GPU {gpu['bus']} (stand-in).")
    elif not arguments or "-q" in arguments:
        table(gpus)
    else:
        say("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n")
        return BAD_ARGUMENT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
