"""The facts: models, accelerators, drivers; read from ``catalogue/*.yaml``, checked like a stack file."""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints

from stackfile.document import read
from stackfile.errors import StackFileError
from stackfile.validation import Strict, validate

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = ROOT / "catalogue"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Gib = Annotated[float, Field(gt=0)]
Runtime = Literal["ctranslate2", "llama_cpp", "onnxruntime"]


class File(Strict):
    """One file of a model. ``size`` in bytes; ``sha256`` is absent until ``assist models pin`` records it."""

    path: str
    size: int | None = None
    sha256: Sha256 | None = None


class FimTemplate(Strict):
    """How a model wants prefix and suffix joined, and the sentinels that must never come from user text."""

    template: str
    stop: tuple[str, ...]


class ModelFacts(Strict):
    """What is known of one model. ``memory_gib`` is weights per precision; the KV cache comes on top."""

    repository: str | None = None
    path: str | None = None
    revision: str
    licence: str
    architecture: Literal["codegen", "qwen2", "mistral"]
    format: Literal["safetensors", "gguf"]
    parameters: int = Field(gt=0)
    context_length: int = Field(gt=0)
    layers: int = Field(gt=0)
    kv_width: int = Field(gt=0)
    memory_gib: dict[str, Gib]
    fim: FimTemplate | None = None
    files: tuple[File, ...]
    note: str | None = None

    @property
    def pinned(self) -> bool:
        """Say whether every file has a checksum; others download only with ``--allow-unpinned``."""
        return all(file.sha256 for file in self.files)

    def kv_cache_gib(self, tokens: int, bytes_per_value: int) -> float:
        """Return the memory of keys and values for ``tokens`` cached tokens, in GiB."""
        return 2 * self.layers * self.kv_width * tokens * bytes_per_value / 2**30


class Gke(Strict):
    """GKE's names: the accelerator label, a machine type and how many GPUs one machine takes."""

    accelerator: str
    machine_type: str
    gpus_per_node: tuple[int, ...]
    note: str | None = None


class Driver(Strict):
    """The driver a host needs: ``branch`` NVIDIA's release branch, ``cuda`` the newest CUDA it serves."""

    branch: str
    minimum: str
    cuda: str
    note: str | None = None


class DriverPackages(Strict):
    """How one system's archive offers a driver; ``dkms`` builds the module on the host."""

    branch: str
    dkms: bool
    components: tuple[str, ...]
    packages: tuple[str, ...]


class DriverBranch(Strict):
    """A branch that accelerators name: packages by system (``debian-12``), and the CUDA it must serve."""

    cuda: str
    systems: dict[str, DriverPackages]


class Measurement(Strict):
    """Tokens per second of one runtime with one model: of one client, and of eight together."""

    parameters: int = Field(gt=0)
    runtime: Runtime
    precision: str
    one_stream: float = Field(gt=0)
    eight_streams: float = Field(gt=0)


class Measurements(Strict):
    """What ``runtime: auto`` goes by. ``source`` says how, where and when it was measured."""

    source: str
    results: tuple[Measurement, ...]


class DeviceFacts(Strict):
    """What a deployment needs to know of one device. ``memory_gib`` is its own; a CPU has the machine's."""

    compute_capability: str | None = None
    memory_gib: Gib | None = None
    precisions: dict[Runtime, tuple[str, ...]]
    gke: Gke | None = None
    driver: Driver | None = None
    note: str | None = None

    @property
    def is_gpu(self) -> bool:
        """Say whether this is a GPU."""
        return self.compute_capability is not None


class AcceleratorFacts(DeviceFacts):
    """What is known of one accelerator."""

    measurements: Measurements | None = None

    @property
    def measured(self) -> tuple[Measurement, ...]:
        """What was measured on it, if anything."""
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
    """Return the model catalogue by id. Raises StackFileError when the file is wrong."""
    return _load("models.yaml", Models).models


@cache
def accelerators() -> dict[str, AcceleratorFacts]:
    """Return the accelerator catalogue by name. Raises StackFileError when the file is wrong."""
    return _load("accelerators.yaml", Accelerators).accelerators


@cache
def drivers() -> dict[str, DriverBranch]:
    """Return the driver catalogue by branch. Raises StackFileError when the file is wrong."""
    return _load("drivers.yaml", Drivers).drivers
