#!/usr/bin/python
"""Ansible module: use every GPU once, through the driver alone."""

import ctypes
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: cuda_smoke
author: The ai-assist contributors
short_description: copy bytes to every GPU and back
description:
  - Makes a CUDA context on each device, copies a mebibyte there, within the device, and back, and compares.
    That takes the kernel's module, the driver's library and the device's memory, and no other package.
  - A GPU that nvidia-smi lists may still refuse a context (fallen off the bus, exclusive mode).
  - Changes nothing; runs in check mode too.
options:
  devices: {description: How many there must be at least., type: int, required: true}
  cuda: {description: "The CUDA version that must be served, such as 11.4.", type: str, default: ""}
"""

RETURN = """
devices: {description: Names of the devices., type: list, elements: str, returned: success}
cuda: {description: The newest CUDA version that the driver serves., type: str, returned: success}
"""
_SIZE = 1 << 20
_PATTERN = bytes(range(256)) * (_SIZE // 256)


class CudaError(Exception):
    """A call that failed, in the driver's own words."""


class Cuda:
    """The few calls of the driver API that are needed. Raises CudaError for each that fails."""

    def __init__(self, library: str = "libcuda.so.1") -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise CudaError(
                f"{library} can't be loaded ({error}); install the driver's compute library"
            ) from error
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: object) -> None:
        """Call ``name``; a status other than 0 is an error."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(status, ctypes.byref(text))
            said = text.value.decode() if text.value else f"error {status}"
            raise CudaError(f"{name}: {said}")

    def number(self, name: str, *arguments: object) -> int:
        """Return the number that a call writes to its first argument."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def version(self) -> str:
        """Return the newest CUDA version that the driver serves."""
        number = self.number("cuDriverGetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    def use(self, index: int) -> str:
        """Use one device; return its name."""
        device = self.number("cuDeviceGet", index)
        name = ctypes.create_string_buffer(100)
        self.call("cuDeviceGetName", name, len(name), device)
        context = ctypes.c_void_p()
        self.call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
        try:
            self.round_trip()
        finally:
            self.call("cuCtxDestroy_v2", context)
        return name.value.decode()

    def round_trip(self) -> None:
        """Copy bytes to the device, within it and back."""
        there, beside = ctypes.c_uint64(), ctypes.c_uint64()
        for memory in (there, beside):
            self.call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(_SIZE))
        self.call("cuMemcpyHtoD_v2", there, _PATTERN, ctypes.c_size_t(_SIZE))
        self.call("cuMemcpyDtoD_v2", beside, there, ctypes.c_size_t(_SIZE))
        back = ctypes.create_string_buffer(_SIZE)
        self.call("cuMemcpyDtoH_v2", back, beside, ctypes.c_size_t(_SIZE))
        for memory in (there, beside):
            self.call("cuMemFree_v2", memory)
        if back.raw != _PATTERN:
            raise CudaError("what came back from the device's memory is not what was sent")


def check(devices: int, cuda: str, library: str = "libcuda.so.1") -> dict[str, Any]:
    """Use every device; return what there is. Raises CudaError with the remedy."""
    driver = Cuda(library)
    found, version = driver.number("cuDeviceGetCount"), driver.version()
    if found < devices:
        raise CudaError(
            f"{found} devices are visible but {devices} are wanted; look for one that fell off the bus"
        )
    if cuda and [int(part) for part in version.split(".")] < [int(part) for part in cuda.split(".")]:
        raise CudaError(f"the driver serves CUDA {version} but {cuda} is wanted; install a later branch")
    return {"devices": [driver.use(index) for index in range(found)], "cuda": version}


def main() -> None:
    """Run the module."""
    options: dict[str, Any] = {
        "devices": {"type": "int", "required": True},
        "cuda": {"type": "str", "default": ""},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **check(module.params["devices"], module.params["cuda"]))
    except CudaError as error:
        module.fail_json(msg=f"CUDA smoke test: {error}")


if __name__ == "__main__":
    main()
