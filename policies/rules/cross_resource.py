"""Rules on objects that must come together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .base import Resource, StackRule


def _of(resources: Sequence[Resource], kind: str) -> list[Resource]:
    return [item for item in resources if item.type.startswith("kubernetes:") and item.kind == kind]


def _spec(resource: Resource) -> Mapping[str, Any]:
    return resource.props.get("spec") or {}


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    wanted = (selector or {}).get("matchLabels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


def has_disruption_budget(resources: Sequence[Resource]) -> Iterator[str]:
    """Refuse a Deployment whose pods a node upgrade may take all at once; a cache may go (``redis``)."""
    budgets = _of(resources, "PodDisruptionBudget")
    for deployment in _of(resources, "Deployment"):
        template = _spec(deployment).get("template") or {}
        labels = (template.get("metadata") or {}).get("labels") or {}
        if labels.get("app.kubernetes.io/name") == "redis":
            continue
        if not any(_selects(_spec(budget).get("selector"), labels) for budget in budgets):
            yield f"Deployment {deployment.metadata.get('name')} has no PodDisruptionBudget: add one"


def denies_by_default(resources: Sequence[Resource]) -> Iterator[str]:
    """Refuse a namespace with pods in which everything may talk to everything."""
    policies = _of(resources, "NetworkPolicy")
    workloads = [*_of(resources, "Deployment"), *_of(resources, "Job")]
    for namespace in sorted({str(item.metadata.get("namespace")) for item in workloads}):
        own = (policy for policy in policies if policy.metadata.get("namespace") == namespace)
        if not any(_denies_all(_spec(policy)) for policy in own):
            yield f"namespace {namespace} has no NetworkPolicy that denies by default: add default-deny"


def _denies_all(spec: Mapping[str, Any]) -> bool:
    everything = not (spec.get("podSelector") or {})
    both = {"Ingress", "Egress"} <= set(spec.get("policyTypes") or ())
    return everything and both and not spec.get("ingress") and not spec.get("egress")


STACK_RULES = (
    StackRule("has-disruption-budget", "Every Deployment has a PodDisruptionBudget", has_disruption_budget),
    StackRule("denies-by-default", "Every namespace with pods denies by default", denies_by_default),
)
