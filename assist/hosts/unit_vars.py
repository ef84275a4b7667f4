"""The variables of the units of a host's gateways and workers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assist.addresses import bracketed
from assist.hosts.inventory import Inventory
from stackfile import ResolvedStack
from stackfile.environment import GatewayPaths, gateway_environment, worker_environment
from stackfile.hosts import Hosts

# Triton servers that a rolling update is draining: gateways send them no new requests. Lost at a reboot.
DRAINED = "/run/ai-assist-drained"


@dataclass(frozen=True)
class UnitVars:
    """The gateways and workers of one ``host``, serving ``model_dir``; ``config`` is the settings' folder."""

    stack: ResolvedStack
    inventory: Inventory
    host: str
    config: str
    model_dir: str

    @property
    def hosts(self) -> Hosts:
        """The stack's section ``hosts``."""
        return self.stack.hosts or Hosts()

    @property
    def paths(self) -> GatewayPaths:
        """The paths of the model and of the gateway's keys."""
        return GatewayPaths(Path(self.model_dir), Path(self.config) / "keys/keys.json")

    def ports(self) -> list[dict[str, int]]:
        """Return the ports of each gateway of a host."""
        gateway = self.stack.gateway
        return [
            {"port": gateway.port + index, "metrics_port": gateway.metrics_port + index}
            for index in range(self.hosts.gateway.instances)
        ]

    def gateways(self) -> dict[str, Any]:
        """Return the variables of the role ``gateway``."""
        environment = gateway_environment(self.stack, self.paths)
        for name in ("API_EXTERNAL_PORT", "ASSIST_METRICS_PORT"):  # each instance has its own
            environment.pop(name)
        environment |= {
            "ASSIST_DRAINED_FILE": DRAINED,
            "ASSIST_HOST": self.inventory.listen(self.host),
            "ASSIST_METRICS_HOST": self._metrics_host(),
        }
        return self.hosts.gateway.model_dump() | {
            "memory_mib": self.stack.memory.gateway_mib,
            "environment": environment | self._engine(self.inventory.reach("gpu")),
            "ports": self.ports(),
            "files": [self._gateway_file(**ports) for ports in self.ports()],
            "auth": self.stack.auth.mode,
            "keys_file": str(self.paths.keys_file),
            "grace_s": self.stack.limits.grace_s,
            "url_host": bracketed(self.inventory.listen(self.host)),
            "redis_cache": self._redis("gateway", "cache") if self.stack.cache.kind == "redis" else "",
            "redis_jobs": self._redis("jobs", "queue") if self.stack.jobs.enabled else "",
        }

    def workers(self, count: int) -> dict[str, Any]:
        """Return the variables of the role ``queue_worker``: ``count`` workers of this host's own Triton."""
        environment = worker_environment(self.stack, self.paths) | {
            "ASSIST_METRICS_HOST": self._metrics_host()
        }
        own = "ASSIST_JOBS_METRICS_PORT"
        environment.pop(own)
        first = self.stack.jobs.metrics_port
        return {
            "enabled": bool(self.stack.jobs.enabled),
            # A worker has a gateway's tokenizer and its own share of requests.
            "memory_mib": self.stack.memory.gateway_mib,
            "environment": environment | self._engine([self.inventory.listen(self.host)]),
            "instances": [str(index) for index in range(count)],
            "files": [
                {"path": f"{self.config}/worker-{index}.env", "content": f"{own}={first + index}\n"}
                for index in range(count)
            ],
            "redis_jobs": self._redis("jobs", "queue"),
        }

    def _gateway_file(self, port: int, metrics_port: int) -> dict[str, str]:
        content = f"API_EXTERNAL_PORT={port}\nASSIST_METRICS_PORT={metrics_port}\n"
        return {"path": f"{self.config}/gateway-{port}.env", "content": content}

    def _metrics_host(self) -> str:
        return self.inventory.addresses[self.host] if self.hosts.firewall.monitoring else "127.0.0.1"

    def _engine(self, addresses: list[str]) -> dict[str, str]:
        """Return the variable for Triton servers at ``addresses``; gRPC balances over several."""
        if self.stack.engine.kind != "triton":
            return {}
        port = self.stack.triton.grpc_port
        servers = [f"{bracketed(address)}:{port}" for address in addresses]
        if len(servers) == 1:
            return {"ASSIST_ENGINE_URL": servers[0]}
        scheme = "ipv6" if ":" in addresses[0] else "ipv4"
        return {"ASSIST_ENGINE_URL": f"{scheme}:{','.join(servers)}"}

    def _redis(self, user: str, server: str) -> str:
        """Return a Redis's URL with the placeholder ``PASSWORD``."""
        address, port = self.inventory.reach("queue")[0], getattr(self.hosts.redis, f"{server}_port")
        return f"redis://{user}:PASSWORD@{bracketed(address)}:{port}/0"
