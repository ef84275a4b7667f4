"""The variables of each role with target ``hosts``, for one host."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from assist.addresses import bracketed
from assist.deployment import needed_locks
from assist.hosts.inventory import Inventory
from assist.hosts.network import openings, targets, workers
from assist.hosts.unit_vars import DRAINED, UnitVars
from assist.paths import SOURCE
from monitoring import rules as prometheus
from monitoring import scrape
from stackfile import ResolvedStack, load_stack, stack_file
from stackfile.catalogue import drivers
from stackfile.hosts import Hosts
from stackfile.memory import redis_limit

USERS = {
    "gateway": ("assist-gateway", "assist-nginx"),
    "gpu": ("assist-loader", "assist-triton", "assist-worker"),
    "queue": (),
}
# What scripts/bootstrap and Triton's stub need; PACKAGES are the services themselves.
EVERYWHERE = (
    "acl", "ca-certificates", "iproute2", "logrotate", "nftables", "openssl", "python3", "python3-venv",
)  # fmt: skip
PACKAGES = {"gateway": ("nginx",), "gpu": (), "queue": ("redis-server",)}
EXPORTER = "prometheus-node-exporter"
# Debian starts these units at installation, before our settings exist.
MASKED = {name: f"{name}.service" for name in ("nginx", "redis-server", EXPORTER)}


@dataclass(frozen=True)
class RoleVars:
    """One host of one deployment; ``release`` names the archive of the programs."""

    file: Path
    stack: ResolvedStack
    inventory: Inventory
    host: str
    release: str

    @cached_property
    def hosts(self) -> Hosts:
        """The stack's section ``hosts``."""
        return self.stack.hosts or Hosts()

    @cached_property
    def groups(self) -> list[str]:
        """The groups of this host."""
        return [group for group, hosts in self.inventory.groups.items() if self.host in hosts]

    @property
    def needs_triton(self) -> bool:
        """Whether Triton is the engine; otherwise the engine is a server at ``engine.url``."""
        return self.stack.engine.kind == "triton"

    @cached_property
    def folders(self) -> dict[str, str]:
        """Every folder of a host, by use."""
        programs = self.hosts.folders.programs
        release = f"{programs}/releases/{self.release}"
        return self.hosts.folders.model_dump() | {
            "release": release,
            "venvs": f"{release}/venvs",
            "packages": f"{programs}/packages",
            "secrets": f"{self.hosts.folders.config}/secrets",
        }

    @cached_property
    def model_dir(self) -> str:
        """The served model's folder; immutable, so the path contains the revision."""
        model = self.stack.model
        variant = "" if model.format == "gguf" else f".{self.stack.variant}"
        return f"{self.folders['models']}/{model.id}/{model.revision}{variant}"

    @property
    def _vocabulary(self) -> str:
        """The file with the tokenizer on a host without the model (``serving.tokenizer_files``)."""
        return "vocabulary.gguf" if self.stack.model.format == "gguf" else "tokenizer.json"

    @cached_property
    def markers(self) -> dict[str, str]:
        """The file that marks each step of a run as complete; a step with its marker is skipped."""
        folders = self.folders
        return {
            "release": f"{folders['release']}/.complete",
            "tools": f"{folders['venvs']}/tools/bootstrap.stamp",
            "libpython": f"{folders['venvs']}/serving/libpython.found",
            "triton": f"{folders['venvs']}/serving/triton.joined",
            "model": f"{self.model_dir}/manifest.json",
            "vocabulary": f"{self.model_dir}/{self._vocabulary}",
            "certificate": f"{folders['config']}/tls/key.pem",
        }

    @cached_property
    def units(self) -> UnitVars:
        """The variables of the host's gateways and workers."""
        folder = self.folders["config"]
        return UnitVars(self.stack, self.inventory, self.host, folder, self.model_dir)

    def facts(self) -> dict[str, Any]:
        """Return the variables of each role, as plain data."""
        nginx = self.hosts.front.model_dump() | {
            "max_body_bytes": self.stack.limits.max_body_bytes,
            "deadline_s": self.stack.limits.deadline_s,
            "upstreams": [
                f"{bracketed(address)}:{port['port']}"
                for address in self.inventory.reach("gateway")
                for port in self.units.ports()
            ],
        }
        return {
            "stack": str(self.file),
            "groups": self.groups,
            "needs_triton": self.needs_triton,
            "folders": self.folders,
            "preflight": self._preflight(),
            "markers": self.markers,
            "base": self._base(),
            "firewall": self._firewall(),
            "release": {"id": self.release, "locks": self.locks},
            "model_store": self._model_store(),
            "redis": self.hosts.redis.model_dump() | self._redis(),
            "triton_server": self._triton(),
            "gateway_server": self.units.gateways(),
            "queue_worker": self.units.workers(workers(self.stack)),
            "nginx": nginx,
            "driver": driver_vars(self.stack, self._gpus),
            "monitoring": self._monitoring(),
            "drained": DRAINED,
            "verify": self._verify(),
        }

    @cached_property
    def locks(self) -> dict[str, list[str]]:
        """The lock files of each virtual environment of this host."""
        # A worker runs beside each Triton, from the gateways' environment.
        users = {
            "gateway": {"gateway", "gpu"} if self.stack.jobs.enabled else {"gateway"},
            "serving": {"gpu"},
            "torch": {"gpu"},
        }
        locks = needed_locks(self.stack)
        return {name: files for name, files in locks.items() if users[name] & set(self.groups)}

    def _of_groups(self, table: dict[str, tuple[str, ...]]) -> list[str]:
        return [item for group in self.groups for item in table[group]]

    def _preflight(self) -> dict[str, Any]:
        weights = sum(file.size or 0 for file in self.stack.model.files) / 2**30
        driver, required = self.stack.accelerator.driver, self.hosts.requirements
        model = 2 * weights if "gpu" in self.groups else 0  # downloaded, and converted beside the download
        return {
            "disk_gib": {
                self.folders["programs"]: required.disk_gib,
                self.folders["models"]: model,
            },
            "memory_gib": required.memory_gib or self._memory_gib(),
            "kernel": required.kernel,
            "gpus": self._gpus,
            "driver": driver.minimum if driver and self._gpus else "",
            "ports": {str(opening.port): opening.use for opening in self._openings() if opening.use != "SSH"},
        }

    def _memory_gib(self) -> float:
        """Return the limits of this host's services together; the loader ends before the engine starts."""
        memory, redis = self.stack.memory, self.hosts.redis
        limits = {
            "gateway": self.hosts.gateway.instances * memory.gateway_mib,
            "gpu": max(memory.engine_mib, memory.loader_mib),
            "queue": redis_limit(redis.cache_mib) + redis_limit(redis.queue_mib),
        }
        return sum(mib for group, mib in limits.items() if group in self.groups) / 1024

    @property
    def _gpus(self) -> int:
        accelerator = self.stack.accelerator
        return accelerator.count if accelerator.is_gpu and "gpu" in self.groups else 0

    def _openings(self) -> list[Any]:
        return openings(self.stack, self.inventory, self.host)

    def _base(self) -> dict[str, Any]:
        exporter = (EXPORTER,) if self.hosts.monitoring.enabled else ()
        packages = [*EVERYWHERE, *exporter, *self._of_groups(PACKAGES)]
        masked = {package: unit for package, unit in MASKED.items() if package in packages}
        logs = self.hosts.logs.model_dump()
        return {"packages": packages, "masked": masked, "users": self._of_groups(USERS), "logs": logs}

    def _firewall(self) -> dict[str, Any]:
        rules = [opening.rule() for opening in self._openings()]
        return {
            "enabled": self.hosts.firewall.enabled,
            "rules": [rule for rule in rules if rule["ipv4"] + rule["ipv6"]],
        }

    def _model_store(self) -> dict[str, Any]:
        model = self.stack.model
        return {
            "model": {"id": model.id, "revision": model.revision, "format": model.format},
            "runtime": self.stack.runtime,
            "precision": self.stack.precision,
            "accept_licence": self.stack.accept_licence or "",
            "dir": self.model_dir,
        }

    def _redis(self) -> dict[str, Any]:
        listen = dict.fromkeys(["127.0.0.1", *self.inventory.reach("queue")])
        clients = self.inventory.of("gateway", "gpu", "queue")
        redis = self.hosts.redis
        return {
            "listen": list(listen),
            "clients": clients,
            "cache": self.stack.cache.kind == "redis",
            "cache_limit_mib": redis_limit(redis.cache_mib),
            "queue_limit_mib": redis_limit(redis.queue_mib),
        }

    def _triton(self) -> dict[str, Any]:
        stack = self.stack
        settings = self.hosts.triton.model_dump() | {"memory_mib": stack.memory.engine_mib}
        return settings | {
            "listen": self.inventory.listen(self.host),
            "url_host": bracketed(self.inventory.listen(self.host)),
            "clients": [*self.inventory.of("gateway", "gpu"), *self.hosts.firewall.monitoring],
            "ports": stack.triton.model_dump(exclude={"host"}),
            "runtime": stack.runtime,
            "grace_s": stack.limits.grace_s,
            "precision": stack.precision,
            "context_length": stack.context_length,
            "serving": stack.serving.model_dump(),
            "gpus": self._gpus,
        }

    def _monitoring(self) -> dict[str, Any]:
        settings, address = self.hosts.monitoring, bracketed(self.inventory.addresses[self.host])
        here = {"host": self.inventory.addresses[self.host], "port": self.hosts.front.https_port}
        # One host has the files for Prometheus: the one of which there is always one.
        files = self._prometheus_files() if "queue" in self.groups else {"scrape": "", "rules": ""}
        return {
            "enabled": settings.enabled,
            "listen": f"{address}:{settings.node_port}",
            "gpus": self._gpus,
            "certificate": here if "gateway" in self.groups else None,
        } | files

    def _prometheus_files(self) -> dict[str, str]:
        configurations = scrape.scrape_configs(self.stack, targets(self.stack, self.inventory))
        return {
            "scrape": prometheus.to_yaml({"scrape_configs": configurations}),
            "rules": prometheus.to_yaml(prometheus.rule_file(self.stack)),
        }

    def _verify(self) -> dict[str, Any]:
        return {
            "url": self._nginx_url(self.inventory.of("gateway")[0]),
            "host_url": self._nginx_url(self.inventory.addresses[self.host]),
            "auth": self.stack.auth.mode,
        }

    def _nginx_url(self, address: str) -> str:
        return f"https://{bracketed(address)}:{self.hosts.front.https_port}"


def driver_vars(stack: ResolvedStack, gpus: int) -> dict[str, Any] | None:
    """Return the driver's settings and packages for a host that uses ``gpus`` GPUs; None for 0."""
    facts = stack.accelerator.driver
    if facts is None or gpus == 0:
        return None
    branch = drivers()[facts.branch]
    return (stack.hosts or Hosts()).driver.model_dump() | {
        "gpus": gpus,
        "branch": facts.branch,
        "minimum": facts.minimum,
        "serves": branch.cuda,
        "systems": {name: offer.model_dump(mode="json") for name, offer in branch.systems.items()},
    }


def resolve(stack: str, inventory: Inventory, host: str, release: str) -> RoleVars:
    """Resolve a stack by name or path for a host. Raises StackFileError and InventoryError."""
    inventory.check()
    file = stack_file(stack, SOURCE)
    return RoleVars(file, load_stack(file), inventory, host, release)
