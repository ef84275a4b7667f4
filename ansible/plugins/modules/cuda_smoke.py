#!/usr/bin/python
"""Ansible module: use every GPU once, through the driver alone."""

DOCUMENTATION = r"""
module: cuda_smoke
author: The ai-assist contributors
short_description: copy bytes to every GPU and back
description:
  - Creates a CUDA context on each device, copies one MiB to the device, within the device and back, and
    compares. This needs the kernel module, the driver's library and the device's memory, and no other
    package.
  - A GPU that nvidia-smi lists may still refuse a context, for example in exclusive mode or after a bus
    error.
  - Changes nothing. Also runs in check mode.
options:
  devices:
    description: Minimum number of devices.
    type: int
    required: true
  cuda:
    description: Minimum CUDA version that the driver must support, such as 11.4.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Driver | Run the CUDA smoke test
  cuda_smoke:
    devices: 2
    cuda: "12.2"
"""

RETURN = r"""
devices:
  description: Names of the devices.
  type: list
  elements: str
  returned: success
cuda:
  description: The newest CUDA version that the driver supports.
  type: str
  returned: success
"""

import ctypes
from typing import Any

from ansible.module_utils.basic import AnsibleModule

_SIZE = 1 << 20
_PATTERN = bytes(range(256)) * (_SIZE // 256)


class CudaError(Exception):
    """A call of the driver failed; the message holds the driver's own name of the error."""


class Cuda:
    """The part of the driver API that the test uses. Every method raises CudaError if its call fails."""

    def __init__(self, library: str = "libcuda.so.1") -> None:
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise CudaError(
                f"{library} cannot be loaded ({error}); install the driver's compute library"
            ) from error
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: object) -> None:
        """Call the function ``name``; any status but 0 is an error."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(status, ctypes.byref(text))
            label = text.value.decode() if text.value else f"error {status}"
            raise CudaError(f"{name}: {label}")

    def number(self, name: str, *arguments: object) -> int:
        """Return the number that a call writes to its first argument."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def version(self) -> str:
        """Return the newest CUDA version that the driver supports."""
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
        first, second = ctypes.c_uint64(), ctypes.c_uint64()
        for memory in (first, second):
            self.call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(_SIZE))
        self.call("cuMemcpyHtoD_v2", first, _PATTERN, ctypes.c_size_t(_SIZE))
        self.call("cuMemcpyDtoD_v2", second, first, ctypes.c_size_t(_SIZE))
        result = ctypes.create_string_buffer(_SIZE)
        self.call("cuMemcpyDtoH_v2", result, second, ctypes.c_size_t(_SIZE))
        for memory in (first, second):
            self.call("cuMemFree_v2", memory)
        if result.raw != _PATTERN:
            raise CudaError("the device's memory returned other bytes than were written")


def check(devices: int, cuda: str, library: str = "libcuda.so.1") -> dict[str, Any]:
    """Use every device; return their names and the CUDA version. Raises CudaError with the remedy."""
    driver = Cuda(library)
    count, version = driver.number("cuDeviceGetCount"), driver.version()
    if count < devices:
        raise CudaError(
            f"{count} devices are visible, but {devices} are required; look for bus errors:"
            " dmesg | grep -i nvrm"
        )
    if cuda and [int(part) for part in version.split(".")] < [int(part) for part in cuda.split(".")]:
        raise CudaError(f"the driver supports CUDA {version}, but {cuda} is required; install a later branch")
    return {"devices": [driver.use(index) for index in range(count)], "cuda": version}


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
