"""Pulumi's provider plugins: named by the SDKs' wheels, taken from the local plugin cache."""

import gzip
import json
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PLATFORM = "linux-amd64"


@dataclass(frozen=True)
class Plugin:
    """A resource plugin, such as gcp 9.37.1."""

    name: str
    version: str

    @property
    def program(self) -> str:
        """The name of its executable."""
        return f"pulumi-resource-{self.name}"


def named_by(wheels: Iterable[Path]) -> Iterator[Plugin]:
    """Yield the plugin of every SDK among ``wheels``, from the SDK's pulumi-plugin.json."""
    for wheel in sorted(wheels):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.endswith("/pulumi-plugin.json"):
                    facts = json.loads(archive.read(name))
                    if facts.get("resource") and "name" in facts:
                        yield Plugin(facts["name"], facts.get("version") or wheel.name.split("-")[1])


def gather(plugins: Iterable[Plugin], target: Path) -> tuple[dict[str, Path], list[str]]:
    """Return an archive of each plugin for `pulumi plugin install --file`, and the missing ones."""
    archives, missing = {}, []
    for plugin in plugins:
        if program := _program(plugin):
            file = target / f"{plugin.program}-v{plugin.version}-{_PLATFORM}.tar.gz"
            _pack(program, file)
            archives[f"plugins/{file.name}"] = file
        else:
            remedy = f"pulumi plugin install resource {plugin.name} {plugin.version}"
            missing.append(f"plugin {plugin.name} {plugin.version}: not on this machine; {remedy}")
    return archives, missing


def _program(plugin: Plugin) -> Path | None:
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    cached = home / "plugins" / f"resource-{plugin.name}-v{plugin.version}" / plugin.program
    return cached if cached.is_file() else None


def _pack(program: Path, file: Path) -> None:
    """Write a tar.gz that depends only on the program's bytes."""
    member = tarfile.TarInfo(program.name)
    member.size, member.mode = program.stat().st_size, 0o755
    with (
        file.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        program.open("rb") as content,
    ):
        tar.addfile(member, content)
