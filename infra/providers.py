"""The only place that makes providers: default ones are off, so that nothing lands where a shell points."""

import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s
import yaml


class KubeconfigError(Exception):
    """A kubeconfig that names no cluster; the message says what to set."""


def for_kubeconfig(name: str, config: pulumi.Config) -> k8s.Provider:
    """Return the provider of the cluster in ``kubeconfig`` (configuration, else $KUBECONFIG, else ~/.kube).

    The state keeps the file's path, never its credentials. The cluster's address identifies it: a renewed
    kubeconfig must not replace everything (pulumi-kubernetes issue 4019), another cluster must.
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
    """Return the provider of the cluster that this stack makes, the same one whatever its kubeconfig.

    What it makes comes after the node pools and goes before them: a pod left without its node never ends.
    """
    return k8s.Provider(
        name,
        kubeconfig=kubeconfig,
        cluster_identifier=name,
        enable_server_side_apply=True,
        opts=pulumi.ResourceOptions(depends_on=[cluster]),
    )


def for_files(name: str, directory: Path) -> k8s.Provider:
    """Return a provider that writes YAML to ``directory`` and needs no cluster."""
    return k8s.Provider(name, render_yaml_to_directory=str(directory))


def _server(path: Path, context: str | None) -> str:
    remedy = "point it at your cluster: pulumi config set kubeconfig PATH (and context NAME)"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        chosen = context or document["current-context"]
        cluster = str(_entry(document["contexts"], chosen, "context")["cluster"])
        return str(_entry(document["clusters"], cluster, "cluster")["server"])
    except FileNotFoundError:
        raise KubeconfigError(f"kubeconfig {path} does not exist; {remedy}") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise KubeconfigError(f"kubeconfig {path} names no cluster ({error!r}); {remedy}") from error


def _entry(entries: list[dict[str, object]], name: str, kind: str) -> dict[str, object]:
    for entry in entries:
        if entry["name"] == name:
            found = entry[kind]
            if isinstance(found, dict):
                return found
    raise KeyError(f"{kind} {name}")
