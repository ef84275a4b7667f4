"""What is done about a host's NVIDIA driver, for every state that a host can be in. No GPU is needed to decide."""

import ctypes
from typing import Any

import pytest

from assist.hosts.role_vars import driver_vars
from stackfile.catalogue import accelerators, drivers
from tests.ansible.host_stacks import service
from tests.ansible.plugins import plugin

rules = plugin("module_utils/driver_decision")
smoke = plugin("modules/cuda_smoke")
OFFER = drivers()["580"].systems["debian-12"].packages
FRESH = {
    "os": "debian-12", "kernel": "6.1.0-40-amd64", "gpus": 1, "loaded": "", "smi": (2, "not found"),
    "installed": [], "on_hold": [], "built": False, "secure_boot": False,
}  # fmt: skip


def wanted(kind: str = "t4", **driver: object) -> dict[str, Any]:
    told = driver_vars(service(accelerator={"kind": kind}, hosts={"driver": driver}), 1)
    assert told
    return told


def decided(kind: str = "t4", driver: dict[str, Any] | None = None, **seen: object) -> Any:
    return rules.decide(FRESH | seen, wanted(kind, **(driver or {})))


def test_a_host_without_a_driver_gets_the_pinned_branch_and_the_headers_of_its_kernel():
    decision = decided()
    assert decision.action == "install"
    assert decision.packages == ("linux-headers-6.1.0-40-amd64", *OFFER)


@pytest.mark.parametrize("version", ["525.60.13", "535.261.03", "580.95.05"])
def test_a_driver_that_serves_is_kept_whoever_installed_it(version):
    assert decided(loaded=version, smi=(0, "0")).action == "keep"


@pytest.mark.parametrize("version", ["470.256.02", "525.60.11"])
def test_a_driver_that_is_too_old_is_replaced(version):
    decision = decided(loaded=version, smi=(0, "0"), installed=["nvidia-tesla-470-smi"])
    assert (decision.action, version in decision.reason) == ("install", True)


def test_a_k80_gets_branch_470_and_no_later_one_counts():
    decision = decided("k80", loaded="535.261.03", smi=(9, "No devices were found"), installed=list(OFFER))
    assert decision.action == "install"
    assert "nvidia-tesla-470-kernel-dkms" in decision.packages
    assert decided("k80", loaded="470.256.02", smi=(0, "0")).action == "keep"


def test_a_k80_on_a_system_without_the_branch_is_refused_with_the_systems_that_have_it():
    with pytest.raises(rules.Refusal, match="use one of debian-12"):
        decided("k80", os="debian-13")


def test_a_library_that_is_newer_than_the_module_takes_a_reboot():
    decision = decided(
        loaded="535.100.01", smi=(18, "Failed to initialize NVML: Driver/library version mismatch"),
        installed=list(OFFER), built=True,
    )  # fmt: skip
    assert (decision.action, "mismatch" in decision.reason) == ("reboot", True)


def test_packages_without_a_module_for_this_kernel_are_refused_and_not_rebooted_for_ever():
    with pytest.raises(rules.Refusal, match=r"install linux-headers-6\.1\.0-40-amd64"):
        decided(installed=list(OFFER), built=False)


def test_a_driver_from_nvidias_installer_is_never_overwritten():
    with pytest.raises(rules.Refusal, match="nvidia-uninstall"):
        decided(loaded="470.57.02", smi=(0, "0"))
    with pytest.raises(rules.Refusal, match="nvidia-uninstall"):
        decided(driver={"force": True}, loaded="580.95.05", smi=(0, "0"))


def test_a_host_without_a_gpu_is_refused():
    with pytest.raises(rules.Refusal, match=r"accelerator\.kind: cpu"):
        decided(gpus=0)


def test_secure_boot_refuses_a_module_that_the_firmware_does_not_know():
    with pytest.raises(rules.Refusal, match="mokutil --import"):
        decided(secure_boot=True)
    assert decided(driver={"secure_boot": "enrolled"}, secure_boot=True).action == "install"
    assert decided(os="ubuntu-24.04", secure_boot=True).action == "install"


def test_skip_leaves_the_driver_alone_and_force_replaces_one_that_works():
    assert decided(driver={"skip": True}, gpus=0).action == "keep"
    seen = {"loaded": "580.95.05", "smi": (0, "0"), "installed": ["nvidia-utils-580"]}
    assert decided(driver={"force": True}, **seen).action == "install"


def test_the_kernel_is_held_with_the_driver_that_was_built_for_it_and_only_then():
    installed = ["linux-image-amd64", "linux-headers-amd64", "linux-image-6.1.0-40-amd64", *OFFER]
    held = rules.packages_to_hold(installed, wanted(), "debian-12")
    assert held == sorted({"linux-image-amd64", "linux-headers-amd64", *OFFER})
    assert rules.packages_to_hold(["linux-image-amd64"], wanted(), "debian-12") == []


def test_every_branch_that_an_accelerator_names_has_packages_somewhere():
    for name, facts in accelerators().items():
        if facts.driver:
            systems = drivers()[facts.driver.branch].systems
            assert systems, name
            for offer in systems.values():
                driver = {"branch": facts.driver.branch, "minimum": facts.driver.minimum}
                assert rules.suits(f"{offer.branch}.999", driver), (name, offer)


class FakeDriver:
    """The driver's library with ``devices`` GPUs, whose memory is a dictionary; ``broken`` calls fail or lie."""

    def __init__(self, devices: int = 2, version: int = 12020, broken: str = "") -> None:
        self.devices, self.version, self.broken = devices, version, broken
        self.memory: dict[int, bytes] = {}
        self.contexts = 0

    def __getattr__(self, name: str) -> Any:
        if name == self.broken:
            return lambda *_: 46
        return getattr(self, f"_{name}")

    def _cuInit(self, _: int) -> int:
        return 0

    def _cuGetErrorName(self, status: int, text: Any) -> int:
        text._obj.value = {46: b"CUDA_ERROR_DEVICE_UNAVAILABLE"}[status]
        return 0

    def _cuDriverGetVersion(self, value: Any) -> int:
        value._obj.value = self.version
        return 0

    def _cuDeviceGetCount(self, value: Any) -> int:
        value._obj.value = self.devices
        return 0

    def _cuDeviceGet(self, value: Any, index: int) -> int:
        value._obj.value = index
        return 0

    def _cuDeviceGetName(self, name: Any, _: int, device: int) -> int:
        name.value = b"Tesla T4 #%d" % device
        return 0

    def _cuCtxCreate_v2(self, context: Any, _: int, device: int) -> int:
        self.contexts += 1
        context._obj.value = device + 1
        return 0

    def _cuCtxDestroy_v2(self, _: Any) -> int:
        self.contexts -= 1
        return 0

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        address._obj.value = 4096 * (len(self.memory) + 1)
        self.memory[address._obj.value] = bytes(size.value)
        return 0

    def _cuMemFree_v2(self, address: Any) -> int:
        del self.memory[address.value]
        return 0

    def _cuMemcpyHtoD_v2(self, to: Any, data: bytes, _: Any) -> int:
        self.memory[to.value] = data[:-1] + b"?" if self.broken == "memory" else data
        return 0

    def _cuMemcpyDtoD_v2(self, to: Any, source: Any, _: Any) -> int:
        self.memory[to.value] = self.memory[source.value]
        return 0

    def _cuMemcpyDtoH_v2(self, to: Any, source: Any, size: Any) -> int:
        ctypes.memmove(to, self.memory[source.value], size.value)
        return 0


def check(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, devices: int = 2, cuda: str = "12.0") -> Any:
    monkeypatch.setattr(smoke.ctypes, "CDLL", lambda _: driver)
    return smoke.check(devices, cuda)


def test_the_smoke_test_uses_every_device_and_leaves_nothing_on_it(monkeypatch):
    driver = FakeDriver()
    found = check(monkeypatch, driver)
    assert found == {"devices": ["Tesla T4 #0", "Tesla T4 #1"], "cuda": "12.2"}
    assert (driver.memory, driver.contexts) == ({}, 0)


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (FakeDriver(broken="cuCtxCreate_v2"), "cuCtxCreate_v2: CUDA_ERROR_DEVICE_UNAVAILABLE"),
        (FakeDriver(broken="memory"), "other bytes than were written"),
        (FakeDriver(devices=1), "1 devices are visible, but 2 are required"),
        (FakeDriver(version=11040), "CUDA 11.4, but 12.0 is required"),
    ],
    ids=["no context", "bad memory", "a device is missing", "too old for the wheels"],
)
def test_the_smoke_test_fails_in_the_drivers_own_words(monkeypatch, driver, message):
    with pytest.raises(smoke.CudaError, match=message):
        check(monkeypatch, driver)


def test_a_missing_library_is_named_with_the_remedy():
    with pytest.raises(smoke.CudaError, match="install the driver's compute library"):
        smoke.check(1, "", "libcuda-that-is-not-there.so.1")
