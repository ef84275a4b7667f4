"""The catalogue: models, runtimes, accelerators and drivers, read from ``catalogue/*.yaml``."""

import difflib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from stackfile.document import read
from stackfile.errors import StackFileError
from stackfile.model_sources import ModelSource, Sha256
from stackfile.validation import Strict, validate

ROOT = Path(__file__).resolve().parent.parent
# Names that an error lists.
_NEAR = 3
# A wheel has the catalogue inside this package (pyproject.toml), as it has no clone beside it.
_INSTALLED = Path(__file__).with_name("_catalogue")
DIRECTORY = _INSTALLED if _INSTALLED.is_dir() else ROOT / "catalogue"

Gib = Annotated[float, Field(gt=0)]
Runtime = Literal["ctranslate2", "llama_cpp", "onnxruntime"]
# An architecture, as config.json's `model_type` or GGUF's `general.architecture` names it.
Architecture = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
# A licence: an SPDX id, or the name on the model's card for one that SPDX does not list.
Licence = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")]
# What a fact was taken from: the model's `file`; the `user` who added it; the repository's `config.json`; the
# `hub`, asked by `assist models pin`; `public records`, two or more that agree where a checksum is concerned;
# or `general knowledge`, to be compared with the file's header.
FactSource = Literal["file", "config.json", "hub", "user", "public records", "general knowledge"]


class ModelFile(Strict):
    """One file of a model. ``size`` in bytes; ``sha256`` is absent until ``assist models pin`` records it."""

    path: str
    size: int | None = None
    sha256: Sha256 | None = None


class FimFacts(Strict):
    """How a model joins prefix and suffix, and the sentinels that must never come from user text."""

    template: str
    # Lists count as well: behind ModelFacts' validator, values are Python's and no longer JSON's.
    stop: Annotated[tuple[str, ...], Field(strict=False)]


class Origin(Strict):
    """Where an entry's facts come from: of each group, the source of its least certain fact.

    ``pin``: sizes and checksums, None without. ``shape``: architecture, parameters, layers, widths, heads,
    vocabulary and context. ``tokens``: the FIM template and the stop tokens.
    """

    pin: FactSource | None = None
    shape: FactSource
    tokens: FactSource
    licence: FactSource


class ModelFacts(Strict):
    """The facts of one model.

    ``commercial``: the licence allows commercial use; without, a stack must accept it (``accept_licence``).
    ``restrictions``: what else the licence demands of those who use or pass on the model. ``memory_gib``: the
    weights by precision, without the KV cache. ``kv_width``: the KV heads together; ``width``: the embedding;
    ``vocabulary``: rows of the head. ``stop``: the tokens that end a text or a chat's answer.
    ``chat_template``: whether the files have one; None where nobody looked. ``format``: ``pickle`` for
    weights in ``pytorch_model.bin`` or its shards, whose conversion needs torch. ``fim``: None for a model
    that was not trained to fill in the middle, whatever tokens its vocabulary has; ``none`` in an entry says
    so.

    Its files are at one of: ``path``, a folder in this project or, where absolute, on this machine;
    ``repository`` on the hub; or ``sources``, tried in their order.
    """

    repository: str | None = None
    path: str | None = None
    sources: tuple[ModelSource, ...] = ()
    revision: str
    licence: Licence
    commercial: bool
    restrictions: str | None = None
    architecture: Architecture
    format: Literal["safetensors", "gguf", "pickle"]
    parameters: int = Field(gt=0)
    context_length: int = Field(gt=0)
    layers: int = Field(gt=0)
    kv_width: int = Field(gt=0)
    width: int = Field(gt=0)
    heads: int = Field(gt=0)
    vocabulary: int = Field(gt=0)
    memory_gib: dict[str, Gib]
    stop: tuple[str, ...] = ()
    fim: FimFacts | None = None
    chat_template: bool | None = None
    files: tuple[ModelFile, ...]
    origin: Origin | None = None
    note: str | None = None

    @field_validator("fim", mode="before")
    @classmethod
    def _read_none(cls, value: object) -> object:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _has_one_origin(self) -> Self:
        if sum(map(bool, (self.repository, self.path, self.sources))) != 1:
            raise ValueError("give exactly one of repository (the hub alone), sources and path")
        for source in self.sources:
            if source.index is None:
                continue
            if set(source.index) != {file.path for file in self.files}:
                raise ValueError("a source `index` lists the parts of every file in `files`, and no other")
            if not self.pinned or any(file.size is None for file in self.files):
                raise ValueError("a source `index` needs size and sha256 of every file in `files`")
        return self

    @model_validator(mode="after")
    def _format_is_that_of_the_weights(self) -> Self:
        pickled = [file.path for file in self.files if file.path.endswith(".bin")]
        if bool(pickled) != (self.format == "pickle"):
            named = f"{pickled[0]} is a pickle" if pickled else "no file ends in .bin"
            raise ValueError(f"format is {self.format}, but {named}; correct format or files")
        return self

    @property
    def places(self) -> tuple[ModelSource, ...]:
        """The sources in the order in which they are tried; none for a model inside this project."""
        return (ModelSource(hub=self.repository),) if self.repository else self.sources

    @property
    def hub(self) -> ModelSource | None:
        """The first hub among the sources."""
        return next((place for place in self.places if place.hub), None)

    @property
    def on_this_machine(self) -> bool:
        """Whether the files are in a folder outside this project, which no other machine has."""
        return self.path is not None and Path(self.path).is_absolute()

    @property
    def pinned(self) -> bool:
        """Return whether every file has a checksum; others download only with ``--allow-unpinned``."""
        return all(file.sha256 for file in self.files)

    @property
    def terms(self) -> str:
        """The licence, whether it allows commercial use, and what it demands, for a reader of a plan."""
        name = self.licence if self.commercial else f"{self.licence}, not for commercial use"
        return f"{name}. {self.restrictions}" if self.restrictions else name


class RuntimeFacts(Strict):
    """What a runtime serves: architectures it ``converts`` from safetensors or ``reads`` as GGUF files.

    ``file_types``: the quantisations of GGUF files that it reads.
    """

    converts: tuple[Architecture, ...]
    reads: tuple[Architecture, ...] = ()
    file_types: tuple[str, ...] = ()


class GkeOffer(Strict):
    """GKE's names: the accelerator label, a machine type and the possible numbers of GPUs on one node."""

    accelerator: str
    machine_type: str
    gpus_per_node: tuple[int, ...]
    note: str | None = None


class DriverFacts(Strict):
    """The driver that a device needs: NVIDIA's release ``branch``, and the newest ``cuda`` of that branch."""

    branch: str
    minimum: str
    cuda: str
    note: str | None = None


class DriverPackages(Strict):
    """The driver in one system's archive; with ``dkms`` the host builds the module."""

    branch: str
    dkms: bool
    components: tuple[str, ...]
    packages: tuple[str, ...]


class DriverBranch(Strict):
    """A branch that accelerators name: packages by system (``debian-12``), and the required CUDA."""

    cuda: str
    systems: dict[str, DriverPackages]


class Measurement(Strict):
    """Tokens per second of one runtime with one model: of one client, and of eight clients together."""

    parameters: int = Field(gt=0)
    runtime: Runtime
    precision: str
    one_stream: float = Field(gt=0)
    eight_streams: float = Field(gt=0)


class Measurements(Strict):
    """The measurements that decide ``runtime: auto``. ``source``: how, where and when they were taken."""

    source: str
    results: tuple[Measurement, ...]


class DeviceFacts(Strict):
    """The facts of one device that a deployment needs. ``memory_gib`` is None for a CPU.

    ``memory_gb_s``: bandwidth of its memory in GB/s, which bounds the speed of generation.
    """

    compute_capability: str | None = None
    memory_gib: Gib | None = None
    memory_gb_s: float = Field(gt=0)
    precisions: dict[Runtime, tuple[str, ...]]
    gke: GkeOffer | None = None
    driver: DriverFacts | None = None
    note: str | None = None

    @property
    def is_gpu(self) -> bool:
        """Return whether the device is a GPU."""
        return self.compute_capability is not None


class AcceleratorFacts(DeviceFacts):
    """The facts of one accelerator."""

    measurements: Measurements | None = None

    @property
    def measured(self) -> tuple[Measurement, ...]:
        """The measurements on this accelerator, if any."""
        return self.measurements.results if self.measurements else ()


class Models(Strict):
    """``catalogue/models.yaml``."""

    models: dict[str, ModelFacts]


class Runtimes(Strict):
    """``catalogue/runtimes.yaml``."""

    runtimes: dict[Runtime, RuntimeFacts]


class Accelerators(Strict):
    """``catalogue/accelerators.yaml``."""

    accelerators: dict[str, AcceleratorFacts]


class Drivers(Strict):
    """``catalogue/drivers.yaml``."""

    drivers: dict[str, DriverBranch]


M = TypeVar("M", bound=Strict)


def _load(file: Path, kind: type[M]) -> M:
    model, problems = validate(read(file), kind)
    if problems or model is None:
        raise StackFileError(problems)
    return model


def added_file() -> Path:
    """Return the file of the models that ``assist models add`` made: the clone's own, beside the catalogue.

    An installed wheel's is the user's, because the next version replaces the wheel's folders.
    """
    if DIRECTORY != _INSTALLED:
        return DIRECTORY / "added.yaml"
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "ai-assist" / "models.yaml"


def model_files() -> list[Path]:
    """Return the files of the model catalogue that exist; a later one's entry replaces an earlier one's."""
    added = dict.fromkeys((DIRECTORY / "added.yaml", added_file()))
    return [DIRECTORY / "models.yaml", *(file for file in added if file.is_file())]


@cache
def models() -> dict[str, ModelFacts]:
    """Return the model catalogue by id. Raises StackFileError for an invalid file."""
    return {name: facts for file in model_files() for name, facts in _load(file, Models).models.items()}


def added() -> frozenset[str]:
    """Return the models of ``added_file``. Raises StackFileError for an invalid file."""
    file = added_file()
    return frozenset(_load(file, Models).models if file.is_file() else ())


def file_of(model: str) -> Path:
    """Return the file whose entry of a model counts, or the project's own for an unknown one.

    Raises StackFileError for an invalid file.
    """
    first, *others = model_files()
    return next((file for file in reversed(others) if model in _load(file, Models).models), first)


def unknown_model(name: str, entries: Mapping[str, ModelFacts]) -> str:
    """Return what to do about a model that none of the entries has: the nearest ones, and how to see all."""
    close = difflib.get_close_matches(name, entries, n=1)
    if close:
        return f"did you mean {close[0]!r}? `assist models list` shows all"
    pinned = [each for each, facts in entries.items() if facts.pinned]
    near = difflib.get_close_matches(name, pinned, n=_NEAR, cutoff=0.0)
    return f"near it are {', '.join(near)}; `assist models list` shows all, `assist models add` adds yours"


@cache
def runtimes() -> dict[Runtime, RuntimeFacts]:
    """Return the facts of every runtime by name. Raises StackFileError for an invalid file."""
    return _load(DIRECTORY / "runtimes.yaml", Runtimes).runtimes


@cache
def accelerators() -> dict[str, AcceleratorFacts]:
    """Return the accelerator catalogue by name. Raises StackFileError for an invalid file."""
    return _load(DIRECTORY / "accelerators.yaml", Accelerators).accelerators


@cache
def drivers() -> dict[str, DriverBranch]:
    """Return the driver catalogue by branch. Raises StackFileError for an invalid file."""
    return _load(DIRECTORY / "drivers.yaml", Drivers).drivers
