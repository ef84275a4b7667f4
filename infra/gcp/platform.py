"""Everything on Google Cloud below the service, in the order of creation."""

from typing import Any

import pulumi

from infra.gcp import kubeconfig, node_pools
from infra.gcp.apis import Apis
from infra.gcp.cluster import Cluster
from infra.gcp.nat import Nat
from infra.gcp.network import Network
from infra.gcp.node_pools import NodePool
from infra.gcp.node_service_account import NodeServiceAccount
from infra.gcp.project import Project, provider
from stackfile.resolved import ResolvedStack


class Platform(pulumi.ComponentResource):
    """The network, the cluster and its pools for one stack, all with one explicit Google provider.

    ``provider_kubeconfig`` is for the workloads' provider, ``kubeconfig`` the cluster's own; the two differ
    where ``config`` sets another file. Raises ``pulumi.RunError`` with the remedy for a wrong setting.
    """

    def __init__(
        self,
        name: str,
        stack: ResolvedStack,
        config: pulumi.Config,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        gke = stack.gke
        if gke is None:
            raise pulumi.RunError(f"stack {stack.name} has no gke section; add it, or set target: kubernetes")
        project = Project.configured(gke)
        google = pulumi.ResourceOptions(providers=[provider(project, stack.name)])
        super().__init__("ai-assist:gcp:Platform", name, None, pulumi.ResourceOptions.merge(opts, google))
        self._stack, self._gke = stack, gke
        self.account, self.cluster = self._foundation(name, project)
        self.cpu_pool = None if gke.autopilot else self._cpu_pool()
        self.gpu_pools = self._gpu_pools(self.cpu_pool) if self.cpu_pool else []
        self.kubeconfig = kubeconfig.of_cluster(self.cluster, gke)
        self.provider_kubeconfig = kubeconfig.for_workloads(self.kubeconfig, config)
        self.outputs: dict[str, Any] = {
            "cluster": self.cluster.name,
            "kubeconfig": self.kubeconfig,
            "kubeconfig_command": kubeconfig.command(self.cluster, gke, project),
        }
        self.register_outputs(self.outputs)

    def _foundation(self, name: str, project: Project) -> tuple[NodeServiceAccount, Cluster]:
        """Create the network with its NAT, the nodes' account and the control plane."""
        child = pulumi.ResourceOptions(parent=self)
        apis = Apis(f"{name}-apis", opts=child)
        network = Network(name, self._gke.network, region=project.region, after=apis.services, opts=child)
        nat = Nat(name, network=network.vpc.self_link, region=project.region, opts=child)
        account = NodeServiceAccount(f"{name}-nodes", project=project.id, after=apis.services, opts=child)
        cluster = Cluster(
            name,
            self._gke,
            project=project,
            network=network,
            node_account=account.email,
            depends_on=[nat.nat, *account.grants],
            opts=child,
        )
        return account, cluster

    def _cpu_pool(self) -> NodePool:
        pool = self._gke.cpu_pool
        return NodePool(
            f"{self._stack.name}-cpu",
            node_pools.cpu_nodes(self._stack.name, pool, self.account.email),
            gke=self._gke,
            pool=pool,
            cluster=self.cluster.cluster,
            after=[],
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _gpu_pools(self, cpu_pool: NodePool) -> list[NodePool]:
        """Create the GPU pools after the CPU pool: GKE omits the GPU taint in a cluster's only pool."""
        stack, pool = self._stack, self._gke.gpu_pool
        if not stack.accelerator.is_gpu:
            return []
        settings = node_pools.gpu_nodes(stack.name, pool, stack.accelerator, self.account.email)
        return [
            NodePool(
                f"{stack.name}-gpu-g{generation}",
                settings,
                gke=self._gke,
                pool=pool,
                cluster=self.cluster.cluster,
                after=[cpu_pool.pool],
                frozen=generation != pool.generations[-1],
                opts=pulumi.ResourceOptions(parent=self),
            )
            for generation in pool.generations
        ]
