"""What is written down of a lab: its hosts, and the folder that everything of it lies in."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from testing.lab.namespaces import FOLDER as NAMESPACES
from testing.lab.processes import LabError, ProcessId
from testing.lab.settings import SUBNET, LabSettings

# The longest names that the kernel's names of links (15 characters) leave room for.
_LAB_NAME, _HOST_NAME = 8, 12
_FIRST, _LAST = 11, 250
_NUMBERS = {"gpus", "gpu_mem"}
_TEXTS = {"layer", "gpu_name", "gpu_driver"}


@dataclass
class Host:
    """One host. ``gpu_mem`` is in MiB, ``hostkey`` the public SSH key; ``process`` supervises systemd-nspawn."""

    name: str
    groups: list[str] = field(default_factory=list)
    layer: str = ""
    gpus: int = 0
    gpu_name: str = "NVIDIA H100 80GB HBM3"
    gpu_mem: int = 81559
    gpu_driver: str = "535.261.03"
    ip: str = ""
    hostkey: str = ""
    process: ProcessId | None = None

    @classmethod
    def parse(cls, text: str) -> "Host":
        """Read ``NAME[:groups=a,b][:gpus=N][:gpu_mem=MIB][:gpu_name=X][:gpu_driver=X][:layer=NAME]``."""
        name, *options = text.split(":")
        if not name.isalnum() or len(name) > _HOST_NAME:
            raise LabError(f"{name!r}: a host's name has 1 to {_HOST_NAME} letters and digits")
        host = cls(name)
        for option in options:
            key, _, value = option.partition("=")
            if key == "groups":
                host.groups = value.split(",")
            elif key in _NUMBERS and value.isdecimal():
                setattr(host, key, int(value))
            elif key in _TEXTS:
                setattr(host, key, value)
            else:
                known = ", ".join(sorted({"groups"} | _NUMBERS | _TEXTS))
                raise LabError(f"{text!r}: {option!r} is not understood; the options are {known}")
        return host

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Host":
        """Return a host as it was written down."""
        process = stored.pop("process")
        return cls(**stored, process=ProcessId(**process) if process else None)

    @property
    def is_alive(self) -> bool:
        """Return whether the host's supervisor runs."""
        return self.process is not None and self.process.is_alive


@dataclass
class Record:
    """A lab as it was written down. ``net`` is ``cache``, ``offline`` or ``none``; ``image`` is a root folder."""

    net: str
    suite: str
    image: Path
    proxy: ProcessId | None = None
    hosts: dict[str, Host] = field(default_factory=dict)

    def add(self, host: Host) -> None:
        """Give a new host the next free address."""
        taken = {other.ip for other in self.hosts.values()}
        addresses = (f"{SUBNET}.{number}" for number in range(_FIRST, _LAST))
        host.ip = next(address for address in addresses if address not in taken)
        self.hosts[host.name] = host

    def chosen(self, names: list[str]) -> list[Host]:
        """Return the named hosts, or all of them without a name; raises LabError for an unknown name."""
        for name in names:
            if name not in self.hosts:
                raise LabError(f"no host {name!r}; there are {', '.join(self.hosts) or 'none'}")
        return [self.hosts[name] for name in names or self.hosts]


class LabFolder:
    """One lab's name and where everything of it is, whether it is up or not."""

    def __init__(self, name: str, settings: LabSettings) -> None:
        if not name.isalnum() or len(name) > _LAB_NAME:
            raise LabError(f"{name!r}: a lab's name has 1 to {_LAB_NAME} letters and digits")
        self.name, self.settings = name, settings
        self.root = settings.state / name
        self.file = self.root / "lab.json"
        self.lock = settings.state / f"{name}.lock"
        self.ssh_config = self.root / "ssh_config"
        self.inventory = self.root / "inventory.yml"
        self.key = self.root / "id_ed25519"
        self.switch = f"lab-{name}"

    def namespace(self, host: str) -> str:
        """Return the name of a host's network namespace."""
        return f"{self.switch}-{host}"

    def host(self, name: str) -> Path:
        """Return the folder of a host's root and of its logs."""
        return self.root / "hosts" / name

    @property
    def has_switch(self) -> bool:
        """Return whether the lab's network exists."""
        return (NAMESPACES / self.switch).exists()

    def find(self) -> Record | None:
        """Return what was written down, or ``None`` where nothing was."""
        try:
            stored = json.loads(self.file.read_text())
        except FileNotFoundError:
            return None
        return Record(
            net=stored["net"],
            suite=stored["suite"],
            image=Path(stored["image"]),
            proxy=ProcessId(**stored["proxy"]) if stored["proxy"] else None,
            hosts={name: Host.read(host) for name, host in stored["hosts"].items()},
        )

    def load(self) -> Record:
        """Return what was written down; raises LabError where the lab was never made."""
        record = self.find()
        if record is None:
            raise LabError(f"no lab {self.name!r}: make it with `python -m testing.lab up HOST`")
        return record

    def save(self, record: Record) -> None:
        """Write a lab down, whole or not at all."""
        self.root.mkdir(parents=True, exist_ok=True)
        part = self.file.with_suffix(".tmp")
        part.write_text(json.dumps(asdict(record), indent=1, default=str))
        part.rename(self.file)
