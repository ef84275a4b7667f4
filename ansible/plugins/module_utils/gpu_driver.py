"""What to do about a host's NVIDIA driver; pure, so that every decision is tested without a GPU."""

import re
from dataclasses import dataclass
from typing import Any

# Of Kepler's last branch; later drivers load and then find no device that they support.
KEPLER = 470
_INSTALLER = "https://www.nvidia.com/en-us/drivers (a .run file)"


class Refusal(Exception):  # noqa: N818  -- a decision, not a fault of the program
    """Why nothing is done; the message names the remedy."""


@dataclass(frozen=True)
class Decision:
    """``action`` is keep, install or reboot; ``why`` is for whoever reads the output."""

    action: str
    why: str
    packages: tuple[str, ...] = ()


def decide(seen: dict[str, Any], wanted: dict[str, Any]) -> Decision:
    """Return what to do. Raises Refusal where a person has to decide.

    ``seen``: ``os`` (debian-12), ``gpus`` (on the PCI bus), ``loaded`` (the module's version), ``smi``
    (nvidia-smi's exit status and first line), ``installed`` (package names), ``built`` (there is a module for
    the running kernel), ``kernel``, ``secure_boot``. ``wanted``: the Service's ``driver`` part.
    """
    if wanted["skip"]:
        return Decision("keep", "hosts.driver.skip leaves the driver to whoever runs the host")
    if seen["gpus"] == 0:
        raise Refusal(
            "no NVIDIA GPU is on the PCI bus; look at its seat, the BIOS and the hypervisor's passthrough,"
            " or set accelerator.kind: cpu"
        )
    if _serves(seen, wanted) and not wanted["force"]:
        return Decision("keep", f"driver {seen['loaded']} answers and is recent enough")
    offer = _offer(seen, wanted)
    missing = tuple(sorted(set(offer["packages"]) - set(seen["installed"])))
    if missing:
        _may_install(seen, wanted, offer)
        return Decision("install", _why(seen, wanted), (*_headers(seen, offer), *offer["packages"]))
    return _installed(seen, offer)


def _serves(seen: dict[str, Any], wanted: dict[str, Any]) -> bool:
    code, _ = seen["smi"]
    return code == 0 and suits(seen["loaded"], wanted)


def suits(version: str, wanted: dict[str, Any]) -> bool:
    """Say whether a driver version is recent enough, and not too recent for a Kepler GPU."""
    kepler = int(wanted["branch"]) == KEPLER
    return _numbers(version) >= _numbers(wanted["minimum"]) and not (kepler and _numbers(version)[0] > KEPLER)


def _offer(seen: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    offers: dict[str, dict[str, Any]] = wanted["systems"]
    if seen["os"] not in offers:
        raise Refusal(
            f"{seen['os']} has no package of driver branch {wanted['branch']}; use one of"
            f" {', '.join(sorted(offers))}, or install it yourself from {_INSTALLER} and set"
            " hosts.driver.skip: true"
        )
    return offers[seen["os"]]


def _why(seen: dict[str, Any], wanted: dict[str, Any]) -> str:
    if wanted["force"]:
        return "hosts.driver.force asks for the pinned branch"
    if not seen["loaded"]:
        return "no driver is loaded"
    return f"driver {seen['loaded']} is not of branch {wanted['branch']} from {wanted['minimum']} on"


def _may_install(seen: dict[str, Any], wanted: dict[str, Any], offer: dict[str, Any]) -> None:
    """Refuse what would break the driver that is there, or would not load."""
    foreign = seen["loaded"] and not any("nvidia" in name for name in seen["installed"])
    if foreign:
        raise Refusal(
            f"driver {seen['loaded']} was not installed from packages, and packages over it would break both;"
            " run nvidia-uninstall and this again, or set hosts.driver.skip: true"
        )
    if offer["dkms"] and seen["secure_boot"] and wanted["secure_boot"] != "enrolled":
        raise Refusal(
            "Secure Boot is on, so a module that is built here loads only once its key is enrolled:"
            " apt-get install dkms mokutil, dkms generate_mok, mokutil --import /var/lib/dkms/mok.pub, reboot"
            " and confirm at the console; then set hosts.driver.secure_boot: enrolled. Or turn it off"
        )


def _headers(seen: dict[str, Any], offer: dict[str, Any]) -> tuple[str, ...]:
    """Return the headers of the running kernel: without them dkms succeeds and builds nothing."""
    return (f"linux-headers-{seen['kernel']}",) if offer["dkms"] else ()


def _installed(seen: dict[str, Any], offer: dict[str, Any]) -> Decision:
    """Decide where every package is there and yet nothing serves."""
    if not seen["built"]:
        raise Refusal(
            f"branch {offer['branch']} is installed, but no module is built for the running kernel"
            f" {seen['kernel']}; install linux-headers-{seen['kernel']}, run dkms autoinstall and look at"
            " /var/lib/dkms/*/*/build/make.log, or boot the kernel that it was built for"
        )
    return Decision(
        "reboot", f"branch {offer['branch']} is installed but not what runs: {seen['smi'][1] or 'not loaded'}"
    )


def held(installed: list[str], wanted: dict[str, Any], os_name: str) -> list[str]:
    """Return the packages that no upgrade may change by itself: the driver's, and the kernel it is for.

    Where the driver is not from our packages, whoever installed it decides about the kernel as well.
    """
    offer = wanted["systems"].get(os_name, {"packages": []})
    if not set(offer["packages"]) & set(installed):
        return []
    kernels = [
        name
        for name in installed
        if re.fullmatch(r"linux-(image|headers)-(amd64|arm64|generic\S*|virtual)", name)
    ]
    return sorted({*kernels, *(set(offer["packages"]) & set(installed))})


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3]) or (0,)
