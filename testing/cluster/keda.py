"""KEDA on the real node: its own manifests and programs, from one local image; nothing is pulled."""

import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

from testing import tools
from testing.cluster.errors import ClusterError
from testing.cluster.images import prepare_keda
from testing.cluster.namespaces import HERE
from testing.cluster.real import Real

KITS = ("keda",)
DEPLOYMENTS = ("keda-operator", "keda-metrics-apiserver", "keda-admission")
_MANIFESTS = (
    "general/namespace.yaml",
    "service_account/service_account.yaml",
    "manager/service.yaml",
    "metrics-server/role.yaml",
    "metrics-server/role_binding.yaml",
    "metrics-server/service.yaml",
    "metrics-server/api_service.yaml",
    "webhooks/service.yaml",
    "webhooks/validation_webhooks.yaml",
)


def install(cluster: Real) -> None:
    """Install KEDA and return when it can be used.

    Raises:
        ClusterError: Where a part does not become ready.

    """
    manifests = tools.file("keda", "keda-install")
    cluster.import_image(prepare_keda())
    # The definitions with their patches; they are too big for kubectl's own way of applying.
    _apply_folder(cluster, manifests / "crd")
    cluster.apply(*(manifests / name for name in _MANIFESTS))
    _apply_folder(cluster, manifests / "rbac")
    ours = str(HERE / "addons/keda.yaml")
    cluster.kubectl("apply", "--server-side", "-f", ours, "-l", "app=keda-operator")
    # The other two end once where they mount the secret while it is empty.
    secret = ("-n", "keda", "get", "secret", "kedaorg-certs", "-o", "jsonpath={.data.ca\\.crt}")
    cluster.wait_for("the operator's certificate", lambda: cluster.kubectl(*secret))
    cluster.kubectl("apply", "--server-side", "-f", ours)
    for name in DEPLOYMENTS:
        status = ("-n", "keda", "rollout", "status", f"deployment/{name}", "--timeout=1s")
        cluster.wait_for(name, partial(cluster.kubectl, *status))
    condition = "jsonpath={.status.conditions[?(@.type=='Available')].status}"
    available = ("get", "apiservice", "v1beta1.external.metrics.k8s.io", "-o", condition)
    cluster.wait_for("the external metrics API", lambda: cluster.kubectl(*available) == "True")


def _apply_folder(cluster: Real, folder: Path) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", folder)


def conditions(cluster: Real, kind: str, namespace: str, name: str) -> dict[str, str]:
    """Return an object's conditions and their statuses; none where it does not exist yet."""
    template = "jsonpath={range .status.conditions[*]}{.type}={.status}{'\\n'}{end}"
    with suppress(ClusterError, subprocess.TimeoutExpired):
        lines = cluster.kubectl("-n", namespace, "get", kind, name, "-o", template).split()
        return dict(line.split("=", 1) for line in lines)
    return {}
