"""The catalogue: models, accelerators and drivers, read from ``catalogue/*.yaml``."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from stackfile.document import read
from stackfile.errors import StackFileError
from stackfile.model_sources import ModelSource, Sha256
from stackfile.validation import Strict, validate

ROOT = Path(__file__).resolve().parent.parent
# A wheel has the catalogue inside this package (pyproject.toml), as it has no clone beside it.
_INSTALLED = Path(__file__).with_name("_catalogue")
DIRECTORY = _INSTALLED if _INSTALLED.is_dir() else ROOT / "catalogue"

Gib = Annotated[float, Field(gt=0)]
Runtime = Literal["ctranslate2", "llama_cpp", "onnxruntime"]


class ModelFile(Strict):
    """One file of a model. ``size`` in bytes; ``sha256`` is absent until ``assist models pin`` records it."""

    path: str
    size: int | None = None
    sha256: Sha256 | None = None


class FimFacts(Strict):
    """How a model joins prefix and suffix, and the sentinels that must never come from user text."""

    template: str
    stop: tuple[str, ...]


class ModelFacts(Strict):
    """The facts of one model. ``memory_gib`` is the weights by precision, without the KV cache.

    Its files are at one of: ``path`` in this project, ``repository`` on the hub, or ``sources``, tried in
    their order.
    """

    repository: str | None = None
    path: str | None = None
    sources: tuple[ModelSource, ...] = ()
    revision: str
    licence: str
    architecture: Literal["codegen", "llama", "qwen2", "mistral"]
    format: Literal["safetensors", "gguf"]
    parameters: int = Field(gt=0)
    context_length: int = Field(gt=0)
    layers: int = Field(gt=0)
    kv_width: int = Field(gt=0)
    memory_gib: dict[str, Gib]
    fim: FimFacts | None = None
    files: tuple[ModelFile, ...]
    note: str | None = None

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

    @property
    def places(self) -> tuple[ModelSource, ...]:
        """The sources in the order in which they are tried; none for a model inside this project."""
        return (ModelSource(hub=self.repository),) if self.repository else self.sources

    @property
    def hub(self) -> ModelSource | None:
        """The first hub among the sources."""
        return next((place for place in self.places if place.hub), None)

    @property
    def pinned(self) -> bool:
        """Return whether every file has a checksum; others download only with ``--allow-unpinned``."""
        return all(file.sha256 for file in self.files)

    def kv_cache_gib(self, tokens: int, bytes_per_value: int) -> float:
        """Return the memory of keys and values for ``tokens`` cached tokens, in GiB."""
        return 2 * self.layers * self.kv_width * tokens * bytes_per_value / 2**30


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
    """The facts of one device that a deployment needs. ``memory_gib`` is None for a CPU."""

    compute_capability: str | None = None
    memory_gib: Gib | None = None
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


class Accelerators(Strict):
    """``catalogue/accelerators.yaml``."""

    accelerators: dict[str, AcceleratorFacts]


class Drivers(Strict):
    """``catalogue/drivers.yaml``."""

    drivers: dict[str, DriverBranch]


M = TypeVar("M", bound=Strict)


def _load(name: str, kind: type[M]) -> M:
    model, problems = validate(read(DIRECTORY / name), kind)
    if problems or model is None:
        raise StackFileError(problems)
    return model


@cache
def models() -> dict[str, ModelFacts]:
    """Return the model catalogue by id. Raises StackFileError for an invalid file."""
    return _load("models.yaml", Models).models


@cache
def accelerators() -> dict[str, AcceleratorFacts]:
    """Return the accelerator catalogue by name. Raises StackFileError for an invalid file."""
    return _load("accelerators.yaml", Accelerators).accelerators


@cache
def drivers() -> dict[str, DriverBranch]:
    """Return the driver catalogue by branch. Raises StackFileError for an invalid file."""
    return _load("drivers.yaml", Drivers).drivers
