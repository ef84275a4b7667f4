"""Decide what a host's NVIDIA driver requires; pure, so that every decision is tested without a GPU."""

import re
from dataclasses import dataclass
from typing import Any

# The last driver branch for Kepler GPUs; later drivers load and then find no supported device.
KEPLER = 470
_INSTALLER = "https://www.nvidia.com/en-us/drivers (a .run file)"


class Refusal(Exception):  # noqa: N818  -- a decision, not a fault of the program
    """A person has to decide; the message names the reason and the remedy."""


@dataclass(frozen=True)
class Decision:
    """``action`` is keep, install or reboot; ``reason`` explains it in the output."""

    action: str
    reason: str
    packages: tuple[str, ...] = ()


def decide(facts: dict[str, Any], driver: dict[str, Any]) -> Decision:
    """Return the action for a host. Raises Refusal where a person has to decide.

    ``facts``: ``os`` (debian-12), ``gpus`` (on the PCI bus), ``loaded`` (the module's version), ``smi``
    (nvidia-smi's exit status and first line), ``installed`` (package names), ``built`` (whether a module for
    the running kernel exists), ``kernel``, ``secure_boot``. ``driver``: that part of the resolved stack.
    """
    if driver["skip"]:
        return Decision("keep", "hosts.driver.skip leaves the driver to the administrator")
    if facts["gpus"] == 0:
        raise Refusal(
            "the PCI bus shows no NVIDIA GPU; check the card's seat, the BIOS and the hypervisor's"
            " passthrough, or set accelerator.kind: cpu"
        )
    if _serves(facts, driver) and not driver["force"]:
        return Decision("keep", f"driver {facts['loaded']} works and is recent enough")
    offer = _offer(facts, driver)
    missing = tuple(sorted(set(offer["packages"]) - set(facts["installed"])))
    if missing:
        _may_install(facts, driver, offer)
        return Decision("install", _reason(facts, driver), (*_headers(facts, offer), *offer["packages"]))
    return _installed(facts, offer)


def _serves(facts: dict[str, Any], driver: dict[str, Any]) -> bool:
    code, _ = facts["smi"]
    return code == 0 and suits(facts["loaded"], driver)


def suits(version: str, driver: dict[str, Any]) -> bool:
    """Return whether a driver version is recent enough, and not too recent for a Kepler GPU."""
    kepler = driver["branch"] == str(KEPLER)
    return _numbers(version) >= _numbers(driver["minimum"]) and not (kepler and _numbers(version)[0] > KEPLER)


def _offer(facts: dict[str, Any], driver: dict[str, Any]) -> dict[str, Any]:
    offers: dict[str, dict[str, Any]] = driver["systems"]
    if facts["os"] not in offers:
        raise Refusal(
            f"{facts['os']} has no package for driver branch {driver['branch']}; use one of"
            f" {', '.join(sorted(offers))}, or install it yourself from {_INSTALLER} and set"
            " hosts.driver.skip: true"
        )
    return offers[facts["os"]]


def _reason(facts: dict[str, Any], driver: dict[str, Any]) -> str:
    if driver["force"]:
        return "hosts.driver.force requires the pinned branch"
    if not facts["loaded"]:
        return "no driver is loaded"
    return f"driver {facts['loaded']} is not of branch {driver['branch']}, {driver['minimum']} or later"


def _may_install(facts: dict[str, Any], driver: dict[str, Any], offer: dict[str, Any]) -> None:
    """Refuse an installation that would break the present driver, or would not load."""
    foreign = facts["loaded"] and not any("nvidia" in name for name in facts["installed"])
    if foreign:
        raise Refusal(
            f"driver {facts['loaded']} was not installed from packages, and packages over it would break"
            " both; run nvidia-uninstall, then this playbook again, or set hosts.driver.skip: true"
        )
    if offer["dkms"] and facts["secure_boot"] and driver["secure_boot"] != "enrolled":
        raise Refusal(
            "Secure Boot is on, so a module that is built here loads only after its key is enrolled:"
            " apt-get install dkms mokutil, dkms generate_mok, mokutil --import /var/lib/dkms/mok.pub, reboot"
            " and confirm at the console; then set hosts.driver.secure_boot: enrolled. Or turn Secure Boot"
            " off"
        )


def _headers(facts: dict[str, Any], offer: dict[str, Any]) -> tuple[str, ...]:
    """Return the headers of the running kernel: without them dkms reports success and builds nothing."""
    return (f"linux-headers-{facts['kernel']}",) if offer["dkms"] else ()


def _installed(facts: dict[str, Any], offer: dict[str, Any]) -> Decision:
    """Decide for a host where every package is installed and the driver does not work."""
    if not facts["built"]:
        raise Refusal(
            f"branch {offer['branch']} is installed, but no module is built for the running kernel"
            f" {facts['kernel']}; install linux-headers-{facts['kernel']}, run dkms autoinstall and check"
            " /var/lib/dkms/*/*/build/make.log, or boot the kernel that the module was built for"
        )
    return Decision(
        "reboot",
        f"branch {offer['branch']} is installed but is not the one in use: {facts['smi'][1] or 'not loaded'}",
    )


def packages_to_hold(installed: list[str], driver: dict[str, Any], os_name: str) -> list[str]:
    """Return the packages to hold, so that no unattended upgrade changes the driver or its kernel.

    Empty where the driver does not come from these packages: the administrator manages both then.
    """
    offer = driver["systems"].get(os_name, {"packages": []})
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
