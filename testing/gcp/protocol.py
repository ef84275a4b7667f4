"""Pulumi's provider protocol, without the rest of its SDK, whose import takes longer than a provider may need to start."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_SDK = "pulumi.runtime.proto"
# The SDK's folder of generated code, under a name of its own.
_ALONE = "pulumi_protocol"


def _package() -> str:
    """Return the name under which the generated code can be imported: the SDK's own where that is loaded anyway."""
    if _SDK in sys.modules:
        return _SDK
    found = importlib.util.find_spec("pulumi")
    if found is None or found.origin is None:
        raise ImportError("pulumi is not installed; run: scripts/bootstrap .venv requirements/dev.txt")
    package = ModuleType(_ALONE)
    package.__path__ = [str(Path(found.origin).parent / "runtime/proto")]
    sys.modules.setdefault(_ALONE, package)
    return _ALONE


_NAME = _package()
provider_pb2 = importlib.import_module(f"{_NAME}.provider_pb2")
provider_pb2_grpc = importlib.import_module(f"{_NAME}.provider_pb2_grpc")
plugin_pb2 = importlib.import_module(f"{_NAME}.plugin_pb2")
status_pb2 = importlib.import_module(f"{_NAME}.status_pb2")

__all__ = ["plugin_pb2", "provider_pb2", "provider_pb2_grpc", "status_pb2"]
