"""One deployment on this machine: its resolved stack, its folders, and the settings of its processes."""

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
from stackfile import ResolvedStack, load_stack, stack_file
from stackfile.environment import GatewayPaths, gateway_environment

# The packages that each process imports: a change of one is a reason to restart the process.
CODE = {"gateway": ("gateway",), "triton": ("serving",), "worker": ("gateway",)}
# Secrets and proxies, which no stack file contains: from the environment of `make up`, kept with mode 0600.
PASSED = (
    "ASSIST_REDIS_URL", "ASSIST_JOBS_REDIS_URL", "ASSIST_ENGINE_KEY", "ASSIST_CACHE_SALT",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip


@dataclass(frozen=True)
class Overrides:
    """Settings of one run in place of the stack's: ``make up HOST=... PORT=...``; None keeps the stack's."""

    host: str | None = None
    port: int | None = None

    @classmethod
    def of(cls, host: str, port: str) -> "Overrides":
        """Parse environment variables; empty keeps the stack's. Raises ValueError with the remedy."""
        if port and not (port.isdecimal() and 1 <= int(port) <= 65535):
            raise ValueError(f"PORT={port} is not a port: give a number from 1 to 65535, such as PORT=5100")
        return cls(host or None, int(port) if port else None)


@dataclass(frozen=True)
class Deployment:
    """A resolved stack and its folders. ``passed`` are variables that no stack file contains (``PASSED``)."""

    stack_file: Path
    stack: ResolvedStack
    layout: Paths
    passed: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_triton(self) -> bool:
        """Whether Triton is the engine; otherwise the engine is a server at ``engine.url``."""
        return self.stack.engine.kind == "triton"

    @property
    def model_link(self) -> Path:
        """The store's link to the served model: the model itself for GGUF, else its converted variant."""
        model = self.stack.model
        return (
            self.layout.store
            / model.id
            / ("current" if model.format == "gguf" else f"current.{self.stack.variant}")
        )

    @property
    def model_dir(self) -> Path:
        """The immutable directory behind the link: both processes serve one revision until restarted."""
        return self.model_link.resolve()

    @property
    def url(self) -> str:
        """The gateway's URL for a client on this machine."""
        return local_url(self.stack.gateway.host, self.stack.gateway.port)

    @property
    def up_command(self) -> str:
        """The command that starts this very deployment again, with the overrides it was started with."""
        named = self.layout.source / "stacks" / self.stack_file.name == self.stack_file
        words = ["make up", f"STACK={self.stack_file.stem if named else shlex.quote(str(self.stack_file))}"]
        declared, gateway = load_stack(self.stack_file).gateway, self.stack.gateway
        words += [f"HOST={gateway.host}"] if gateway.host != declared.host else []
        words += [f"PORT={gateway.port}"] if gateway.port != declared.port else []
        return " ".join(words)

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        """Every address that the deployment listens on, by use."""
        gateway, triton = self.stack.gateway, self.stack.triton
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
        if self.stack.jobs.enabled:
            ports["worker metrics"] = (gateway.metrics_host, self.stack.jobs.metrics_port)
        return ports

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that supervisor runs."""
        programs = {"triton": self.needs_triton, "gateway": True, "worker": self.stack.jobs.enabled}
        return tuple(name for name, enabled in programs.items() if enabled)

    @property
    def locks(self) -> dict[str, list[str]]:
        """The lock files of each virtual environment of this deployment."""
        return needed_locks(self.stack)

    def facts(self) -> dict[str, Any]:
        """Return the variables of each role, as plain data.

        ``revisions`` are digests of everything that takes effect with a restart.
        """
        stack, plain = self.stack, self.stack.model_dump(mode="json")
        model = {name: plain["model"][name] for name in ("id", "revision", "format")}
        variant = {name: plain[name] for name in ("runtime", "precision")}
        devices = stack.accelerator.count if stack.accelerator.is_gpu else 0
        triton = variant | {
            "model_dir": str(self.model_dir),
            "context_length": stack.context_length,
            "serving": plain["serving"],
            "gpus": devices,
        }
        gateway = {
            "stack": str(self.stack_file),
            "url": self.url,
            "auth": stack.auth.mode,
            "environment": self.gateway_environment(),
        }
        supervisor = {"needs_triton": self.needs_triton, "gpus": devices, "grace_s": stack.limits.grace_s}
        worker = {name: plain["jobs"][name] for name in ("enabled", "metrics_port")}
        revisions = {
            "triton": self._revision("triton", "serving", [triton, plain["triton"]]),
            "gateway": self._revision("gateway", "gateway", gateway),
            "worker": self._revision("worker", "gateway", [gateway, plain["jobs"]]),
        }
        return {
            "needs_triton": self.needs_triton,
            "runtime_venvs": {"locks": self.locks},
            "model_store": variant | {"model": model, "accept_licence": stack.accept_licence or ""},
            "triton": triton,
            "gateway": gateway,
            "supervisor": supervisor | {"triton": plain["triton"], "worker": worker, "revisions": revisions},
        }

    def gateway_environment(self) -> dict[str, str]:
        """Return the gateway's environment: the stack's settings, this machine's paths and ``passed``.

        Later commands read the stack and the overrides back from this environment (``current``).
        """
        environment = gateway_environment(self.stack, GatewayPaths(self.model_dir, self.layout.keys))
        if not self.needs_triton:
            environment.pop("ASSIST_MODEL_DIR")
        here = {"ASSIST_STACK": str(self.stack_file), "ASSIST_HANDOVER_DIR": str(self.layout.gateways)}
        return {**self.passed, **environment, **here}

    def _revision(self, process: str, environment: str, settings: object) -> str:
        """Return a digest of the code, the packages and the settings of ``process``."""
        locks = [self.layout.source / "requirements" / lock for lock in self.locks.get(environment, [])]
        total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for path in [*locks, *_sources(self.layout.source / name for name in CODE[process])]:
            total.update(f"{path.relative_to(self.layout.source)}\0{path.stat().st_size}\0".encode())
            total.update(path.read_bytes())
        return total.hexdigest()[:16]


def needed_locks(stack: ResolvedStack) -> dict[str, list[str]]:
    """Return the lock files of each virtual environment that ``stack`` needs."""
    extra = {"llama_cpp": ["llamacpp.txt"], "onnxruntime": ["onnx.txt"]}
    accelerator, runtime = stack.accelerator, extra.get(stack.runtime, [])
    # CTranslate2 3.24 and CUDA 11, the last with support for Kepler, replace the others (docs/k80.md).
    kepler = accelerator.kind == "k80"
    cuda = ["cuda12.txt"] if accelerator.is_gpu and not kepler and stack.runtime == "ctranslate2" else []
    locks = ["k80.txt" if kepler else "serving.txt", "triton.txt", *runtime, *cuda]
    serving = {"serving": locks} if stack.engine.kind == "triton" else {}
    torch = {"torch": ["torch.txt"]} if serving and stack.model.format == "pickle" else {}
    traces = ["tracing.txt"] if stack.monitoring.traces else []
    return {"gateway": ["gateway.txt", *traces], **serving, **torch}


def resolve(stack: str, layout: Paths, overrides: Overrides = Overrides()) -> Deployment:
    """Resolve a stack by name or path. Raises StackFileError with every problem of the file."""
    return _resolved(stack, layout, overrides, os.environ)


def _resolved(stack: str, layout: Paths, overrides: Overrides, environ: Mapping[str, str]) -> Deployment:
    file = stack_file(stack, layout.source)
    resolved = load_stack(file)
    changes = {name: value for name, value in vars(overrides).items() if value is not None}
    gateway = resolved.gateway.model_copy(update=changes)
    passed = {name: environ[name] for name in PASSED if environ.get(name)}
    return Deployment(file, resolved.model_copy(update={"gateway": gateway}), layout, passed)


def current(layout: Paths) -> Deployment | None:
    """Return the deployment that was last started here, or None.

    Raises StackFileError when its stack has become invalid since.
    """
    file = layout.gateway_env
    if not file.exists():
        return None
    entries = shlex.split(file.read_text(encoding="utf-8"), comments=True)
    environ = dict(entry.split("=", 1) for entry in entries)
    overrides = Overrides.of(environ["ASSIST_HOST"], environ["API_EXTERNAL_PORT"])
    # The secrets of the running gateway, not those of this command's environment.
    return _resolved(environ["ASSIST_STACK"], layout, overrides, environ)


def _sources(folders: Iterable[Path]) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))
