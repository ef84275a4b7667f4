"""Property values between Pulumi's wire format and Python: secrets, values not known yet, whole numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import struct_pb2

# The markers of Pulumi's wire format (pulumi/sdk, resource.Secret and plugin.UnknownStringValue).
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


class Unknown:
    """A value that a preview cannot know."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that the engine encrypts in the state and hides in its output."""

    value: Any

    def __repr__(self) -> str:
        return "Secret(...)"


def decode(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Return the properties of a message; nulls are left out, as Google's provider does."""
    return {key: _from_wire(value) for key, value in struct.fields.items() if not _is_null(value)}


def encode(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Return the message of properties that may hold ``Secret`` and ``UNKNOWN``."""
    struct = struct_pb2.Struct()
    struct.update(to_wire(dict(properties)))
    return struct


def plain(value: Any) -> Any:
    """Return a value without its secret markers."""
    if isinstance(value, Secret):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def known(value: Any) -> Any:
    """Return a value without its parts that are not known yet."""
    if isinstance(value, dict):
        return {key: known(item) for key, item in value.items() if item is not UNKNOWN}
    if isinstance(value, list):
        return [known(item) for item in value if item is not UNKNOWN]
    return value


def marked(value: Any, like: Any) -> Any:
    """Return ``value`` with those parts secret that are secret in ``like``."""
    if isinstance(like, Secret):
        return Secret(plain(value))
    if isinstance(value, dict) and isinstance(like, dict):
        return {key: marked(item, like.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(like, list) and len(value) == len(like):
        return [marked(item, other) for item, other in zip(value, like, strict=True)]
    return value


def merged(old: Any, new: Any) -> Any:
    """Return ``new`` with what ``old`` has beside it, as deep as both are objects or lists of one length."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [merged(one, other) for one, other in zip(old, new, strict=True)]
    return new


def _is_null(value: struct_pb2.Value) -> bool:
    return value.WhichOneof("kind") in {"null_value", None}


def _from_wire(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return UNKNOWN if value.string_value == _UNKNOWN else value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_from_wire(item) for item in value.list_value.values]
    fields = decode(value.struct_value)
    return Secret(fields["value"]) if fields.get(_SIGNATURE) == _SECRET else fields


def to_wire(value: Any) -> Any:
    """Return a value as JSON has it, with Pulumi's markers for secrets and unknown values."""
    if isinstance(value, Secret):
        return {_SIGNATURE: _SECRET, "value": to_wire(value.value)}
    if value is UNKNOWN:
        return _UNKNOWN
    if isinstance(value, dict):
        return {key: to_wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_wire(item) for item in value]
    return value
