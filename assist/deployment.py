"""One deployment on this machine: the Service, where it lives, and what its processes are told."""

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assist.addresses import local_url
from assist.paths import Paths
from stackfile import ResolvedStack, load_stack
from stackfile.environment import GatewayPaths, gateway_environment

# What each process imports from the project: a change of it is a reason to restart that process.
CODE = {"gateway": ("gateway",), "triton": ("serving",), "worker": ("gateway",)}
# Secrets and the way out, which no stack file holds: from the environment of `make up`, kept with mode 0600.
PASSED = (
    "ASSIST_REDIS_URL", "ASSIST_JOBS_REDIS_URL", "ASSIST_ENGINE_KEY", "ASSIST_CACHE_SALT",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


@dataclass(frozen=True)
class Overrides:
    """What one run says in place of the stack: ``make up HOST=... PORT=...``; ``None`` keeps the stack's."""

    host: str | None = None
    port: int | None = None

    @classmethod
    def of(cls, host: str, port: str) -> "Overrides":
        """Read them from text, as environment variables give them. Raises ValueError with the remedy."""
        if port and not (port.isdecimal() and 1 <= int(port) <= 65535):
            raise ValueError(f"PORT={port} is no port: give a number from 1 to 65535, such as PORT=5100")
        return cls(host or None, int(port) if port else None)


@dataclass(frozen=True)
class Deployment:
    """A resolved stack in its place. ``passed`` is what no stack file holds (``PASSED``)."""

    stack: Path
    service: ResolvedStack
    layout: Paths
    passed: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_triton(self) -> bool:
        """Say whether Triton runs here, or some other server at ``engine.url`` generates."""
        return self.service.engine.kind == "triton"

    @property
    def model_link(self) -> Path:
        """The store's link to what is served: the model itself for GGUF, else its converted variant."""
        model = self.service.model
        return (
            self.layout.store
            / model.id
            / ("current" if model.format == "gguf" else f"current.{self.service.variant}")
        )

    @property
    def model_dir(self) -> Path:
        """The immutable directory behind the link: both processes serve one revision until told otherwise."""
        return self.model_link.resolve()

    @property
    def url(self) -> str:
        """Where a client on this machine finds the gateway."""
        return local_url(self.service.gateway.host, self.service.gateway.port)

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        """Every address that the deployment listens on, by what it is for."""
        gateway, triton = self.service.gateway, self.service.triton
        ports = {
            "gateway": (gateway.host, gateway.port),
            "gateway metrics": (gateway.metrics_host, gateway.metrics_port),
        }
        if self.needs_triton:
            ports |= {
                "Triton HTTP": (triton.host, triton.http_port),
                "Triton gRPC": (triton.host, triton.grpc_port),
                "Triton metrics": (triton.host, triton.metrics_port),
            }
        if self.service.jobs.enabled:
            ports["worker metrics"] = (gateway.metrics_host, self.service.jobs.metrics_port)
        return ports

    @property
    def programs(self) -> tuple[str, ...]:
        """What runs under supervisor."""
        wanted = {"triton": self.needs_triton, "gateway": True, "worker": self.service.jobs.enabled}
        return tuple(name for name, needed in wanted.items() if needed)

    @property
    def locks(self) -> dict[str, list[str]]:
        """The lock files of each virtual environment that this deployment runs."""
        return needed_locks(self.service)

    def facts(self) -> dict[str, Any]:
        """Return what each role needs, as plain data. ``revisions`` digest all that a restart picks up."""
        service, plain = self.service, self.service.model_dump(mode="json")
        model = {name: plain["model"][name] for name in ("id", "revision", "format")}
        variant = {name: plain[name] for name in ("runtime", "precision")}
        devices = service.accelerator.count if service.accelerator.is_gpu else 0
        split = service.accelerator.count if service.accelerator.split == "tensor" else 1
        triton = variant | {
            "model_dir": str(self.model_dir),
            "context_length": service.context_length,
            "serving": plain["serving"],
            "gpus": devices,
            "split": split,
        }
        gateway = {
            "stack": str(self.stack),
            "url": self.url,
            "auth": service.auth.mode,
            "environment": self.gateway_environment(),
        }
        supervisor = {"needs_triton": self.needs_triton, "gpus": devices, "grace_s": service.limits.grace_s}
        worker = {name: plain["jobs"][name] for name in ("enabled", "metrics_port")}
        revisions = {
            "triton": self._revision("triton", "serving", [triton, plain["triton"]]),
            "gateway": self._revision("gateway", "gateway", gateway),
            "worker": self._revision("worker", "gateway", [gateway, plain["jobs"]]),
        }
        return {
            "needs_triton": self.needs_triton,
            "runtime_venvs": {"locks": self.locks},
            "model_store": variant | {"model": model},
            "triton": triton,
            "gateway": gateway,
            "supervisor": supervisor | {"triton": plain["triton"], "worker": worker, "revisions": revisions},
        }

    def gateway_environment(self) -> dict[str, str]:
        """Return the gateway's environment: the Service's words, and what this machine alone knows.

        The stack and the overrides come back from here when the deployment is looked at later (``current``).
        """
        environment = gateway_environment(self.service, GatewayPaths(self.model_dir, self.layout.keys))
        if not self.needs_triton:
            environment.pop("ASSIST_MODEL_DIR")
        return {**self.passed, **environment, "ASSIST_STACK": str(self.stack)}

    def _revision(self, process: str, environment: str, told: object) -> str:
        """Digest the code, the packages and the settings of ``process``."""
        locks = [self.layout.source / "requirements" / lock for lock in self.locks.get(environment, [])]
        total = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for path in [*locks, *_sources(self.layout.source / name for name in CODE[process])]:
            total.update(f"{path.relative_to(self.layout.source)}\0{path.stat().st_size}\0".encode())
            total.update(path.read_bytes())
        return total.hexdigest()[:16]


def needed_locks(service: ResolvedStack) -> dict[str, list[str]]:
    """Return the lock files of each virtual environment that ``service`` takes."""
    extra = {"llama_cpp": ["llamacpp.txt"], "onnxruntime": ["onnx.txt"]}
    accelerator, runtime = service.accelerator, extra.get(service.runtime, [])
    # Kepler ended with CTranslate2 3.24 and CUDA 11, which replace the others (docs/k80.md).
    kepler = accelerator.kind == "k80"
    cuda = ["cuda12.txt"] if accelerator.is_gpu and not kepler and service.runtime == "ctranslate2" else []
    locks = ["k80.txt" if kepler else "serving.txt", "triton.txt", *runtime, *cuda]
    serving = {"serving": locks} if service.engine.kind == "triton" else {}
    return {"gateway": ["gateway.txt"], **serving}


def resolve(stack: str, layout: Paths, overrides: Overrides = Overrides()) -> Deployment:
    """Resolve a stack by name or by path. Raises StackFileError with every problem of the file."""
    return _resolved(stack, layout, overrides, os.environ)


def _resolved(stack: str, layout: Paths, overrides: Overrides, known: Mapping[str, str]) -> Deployment:
    file = Path(stack) if stack.endswith((".yaml", ".yml")) else layout.source / "stacks" / f"{stack}.yaml"
    service = load_stack(file)
    changes = {name: value for name, value in vars(overrides).items() if value is not None}
    gateway = service.gateway.model_copy(update=changes)
    passed = {name: known[name] for name in PASSED if known.get(name)}
    return Deployment(file, service.model_copy(update={"gateway": gateway}), layout, passed)


def current(layout: Paths) -> Deployment | None:
    """Return the deployment that the gateway here was last told to be; ``None`` when there is none.

    Raises StackFileError when its stack has gone wrong since.
    """
    file = layout.gateway_env
    if not file.exists():
        return None
    told = dict(entry.split("=", 1) for entry in shlex.split(file.read_text(encoding="utf-8"), comments=True))
    overrides = Overrides.of(told["ASSIST_HOST"], told["API_EXTERNAL_PORT"])
    # The secrets are those of its start, not of whoever asks now.
    return _resolved(told["ASSIST_STACK"], layout, overrides, told)


def _sources(folders: Iterable[Path]) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))
