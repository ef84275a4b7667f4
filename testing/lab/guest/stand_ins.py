#!/usr/bin/python3
"""Runs in a lab's host before anything reads kernel settings: mounts stand-ins over what belongs to the machine.

A role may set ``vm.*`` and the like and read it back, and nothing outside this host changes. The GPUs that
/etc/lab/gpus.json names get device nodes, entries on the PCI bus and the driver's files; nothing computes on them.
"""

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

RUN = Path("/run/lab")
GPUS = Path("/etc/lab/gpus.json")
PCI, DRIVER = Path("/sys/bus/pci/devices"), Path("/proc/driver")
# By tree of /proc/sys: what stays the kernel's own, as it belongs to this host.
TREES: dict[str, tuple[str, ...]] = {
    "vm": (),
    "fs": (),
    "kernel": ("random", "hostname", "domainname", "cap_last_cap"),
}
NVIDIA, H100, SUBSYSTEM = 0x10DE, 0x2330, 0x16C1
NODES_MAJOR, CONTROL_MINOR, UVM_MAJOR = 195, 255, 511


def mount(*arguments: object) -> None:
    """Run the program of that name, which fails the unit where it fails."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def copy(source: Path, target: Path) -> None:
    """Copy a tree of /proc/sys with its values; what can't be read becomes an empty file."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        to = target / entry.name
        if entry.name == "random" or entry.is_mount():
            to.mkdir(exist_ok=True) if entry.is_dir() else to.touch()
        elif entry.is_dir():
            copy(entry, to)
        else:
            try:
                to.write_bytes(entry.read_bytes())
            except OSError:
                to.touch()
            to.chmod(entry.stat().st_mode & 0o777 | 0o200)


def kernel_settings() -> None:
    """Let this host write kernel settings that the machine keeps to itself."""
    for tree, live in TREES.items():
        real, fake, kept = Path("/proc/sys", tree), RUN / f"sys-{tree}", RUN / f"live-{tree}"
        copy(real, fake)
        if live:
            kept.mkdir(exist_ok=True)
            mount("--rbind", real, kept)
            mount("--make-rprivate", kept)  # or the next mount would show there too
        mount("--bind", fake, real)
        for name in live:
            mount("--rbind", kept / name, real / name)
    for knob in ("enabled", "defrag"):
        real, fake = Path("/sys/kernel/mm/transparent_hugepage", knob), RUN / f"thp-{knob}"
        if real.exists():
            fake.write_text("always [madvise] never\n")
            mount("--bind", fake, real)
    # net.* belongs to this host's own network namespace, but systemd-nspawn lets it be written only in one that it
    # made itself.
    mount("--bind", "/proc/sys/net", "/proc/sys/net")
    mount("-o", "remount,bind,rw", "/proc/sys/net")


def node(path: str, major: int, minor: int) -> None:
    """Make a character device that anybody may open; without a driver, opening it fails."""
    if not Path(path).exists():
        os.mknod(path, 0o020666, os.makedev(major, minor))
        Path(path).chmod(0o666)  # whatever the umask


def pci_entry(folder: Path) -> None:
    """Write what lspci reads of an H100."""
    folder.mkdir(exist_ok=True)
    values = {
        "vendor": f"{NVIDIA:#06x}", "device": f"{H100:#06x}", "class": "0x030200",
        "subsystem_vendor": f"{NVIDIA:#06x}", "subsystem_device": f"{SUBSYSTEM:#06x}", "revision": "0xa1",
        "irq": "16", "numa_node": "0", "enable": "1",
    }  # fmt: skip
    for name, value in values.items():
        (folder / name).write_text(value + "\n")
    (folder / "resource").write_text(f"{' '.join(['0x0000000000000000'] * 3)}\n" * 13)
    config = bytearray(256)
    struct.pack_into("<HHHHBBBB", config, 0, NVIDIA, H100, 6, 0x10, 0xA1, 0, 2, 3)
    struct.pack_into("<HH", config, 0x2C, NVIDIA, SUBSYSTEM)
    (folder / "config").write_bytes(config)


def driver_entry(folder: Path, gpu: dict[str, Any]) -> None:
    """Write what a loaded driver says of one GPU."""
    folder.mkdir(exist_ok=True)
    (folder / "information").write_text(
        f"Model: \t\t {gpu['name']}\nIRQ:   \t\t 16\nGPU UUID: \t {gpu['uuid']}\n"
        f"Bus Location: \t {gpu['bus']}\nDevice Minor: \t {gpu['index']}\n"
    )


def graphics(gpus: list[dict[str, Any]]) -> None:
    """Let this host look as if it had these GPUs and a loaded driver."""
    node("/dev/nvidiactl", NODES_MAJOR, CONTROL_MINOR)
    node("/dev/nvidia-uvm", UVM_MAJOR, 0)
    pci, driver = RUN / "pci", RUN / "driver"
    pci.mkdir(exist_ok=True)
    (driver / "nvidia/gpus").mkdir(parents=True, exist_ok=True)
    (driver / "nvidia/version").write_text(
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {gpus[0]['driver']}  (lab stand-in)\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
    )
    for gpu in gpus:
        node(f"/dev/nvidia{gpu['index']}", NODES_MAJOR, gpu["index"])
        pci_entry(pci / gpu["bus"])
        driver_entry(driver / "nvidia/gpus" / gpu["bus"], gpu)
    for real, fake in ((PCI, pci), (DRIVER, driver)):
        if real.is_dir():
            mount("--bind", fake, real)


def main() -> None:
    """Mount everything."""
    RUN.mkdir(exist_ok=True)
    kernel_settings()
    gpus = json.loads(GPUS.read_text())
    if gpus:
        graphics(gpus)


if __name__ == "__main__":
    main()
