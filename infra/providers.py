"""Every provider is explicit: default providers are off, so that no resource lands in a shell's context."""

import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s
import yaml


class KubeconfigError(Exception):
    """A kubeconfig without a cluster; the message names the setting."""


def for_kubeconfig(name: str, config: pulumi.Config) -> k8s.Provider:
    """Return the provider of the cluster in ``kubeconfig`` (configuration, else $KUBECONFIG, else ~/.kube).

    The state contains the file's path, never its credentials. The cluster's address is its identity: another
    cluster replaces every resource, but a renewed kubeconfig does not (pulumi-kubernetes issue 4019).
    Raises KubeconfigError.
    """
    default = os.environ.get("KUBECONFIG") or "~/.kube/config"
    path = Path(config.get("kubeconfig") or default).expanduser()
    context = config.get("context")
    return k8s.Provider(
        name,
        kubeconfig=str(path),
        context=context,
        cluster_identifier=_server(path, context),
        enable_server_side_apply=True,
    )


def for_cluster(name: str, kubeconfig: pulumi.Output[str], cluster: pulumi.Resource) -> k8s.Provider:
    """Return the provider of the stack's own cluster, with an identity independent of its kubeconfig.

    Its resources are created after the node pools and deleted before them, because a pod without its node
    never terminates.
    """
    return k8s.Provider(
        name,
        kubeconfig=kubeconfig,
        cluster_identifier=name,
        enable_server_side_apply=True,
        opts=pulumi.ResourceOptions(depends_on=[cluster]),
    )


def for_files(name: str, directory: Path) -> k8s.Provider:
    """Return a provider that writes YAML to ``directory``, without a cluster."""
    return k8s.Provider(name, render_yaml_to_directory=str(directory))


def _server(path: Path, context: str | None) -> str:
    remedy = "set your cluster's: pulumi config set kubeconfig PATH (and context NAME)"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        chosen = context or document["current-context"]
        cluster = str(_entry(document["contexts"], chosen, "context")["cluster"])
        return str(_entry(document["clusters"], cluster, "cluster")["server"])
    except FileNotFoundError:
        raise KubeconfigError(f"kubeconfig {path} does not exist; {remedy}") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise KubeconfigError(f"kubeconfig {path} does not name a cluster ({error!r}); {remedy}") from error


def _entry(entries: list[dict[str, object]], name: str, kind: str) -> dict[str, object]:
    for entry in entries:
        if entry["name"] == name:
            value = entry[kind]
            if isinstance(value, dict):
                return value
    raise KeyError(f"{kind} {name}")
