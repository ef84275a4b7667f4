"""Rules on objects that must exist together."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .base import Resource, StackRule


def _of(resources: Sequence[Resource], kind: str) -> list[Resource]:
    return [item for item in resources if item.type.startswith("kubernetes:") and item.kind == kind]


def _spec(resource: Resource) -> Mapping[str, Any]:
    return resource.props.get("spec") or {}


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    required = (selector or {}).get("matchLabels") or {}
    return bool(required) and all(labels.get(key) == value for key, value in required.items())


def has_disruption_budget(resources: Sequence[Resource]) -> Iterator[str]:
    """Require a PodDisruptionBudget, which keeps pods serving in node upgrades, except of the cache Redis."""
    budgets = _of(resources, "PodDisruptionBudget")
    for deployment in _of(resources, "Deployment"):
        template = _spec(deployment).get("template") or {}
        labels = (template.get("metadata") or {}).get("labels") or {}
        if labels.get("app.kubernetes.io/name") == "redis":
            continue
        if not any(_selects(_spec(budget).get("selector"), labels) for budget in budgets):
            yield f"Deployment {deployment.metadata.get('name')} has no PodDisruptionBudget: add one"


def denies_by_default(resources: Sequence[Resource]) -> Iterator[str]:
    """Require a default-deny NetworkPolicy in every namespace with pods."""
    policies = _of(resources, "NetworkPolicy")
    workloads = [*_of(resources, "Deployment"), *_of(resources, "Job")]
    for namespace in sorted({str(item.metadata.get("namespace")) for item in workloads}):
        own = (policy for policy in policies if policy.metadata.get("namespace") == namespace)
        if not any(_denies_all(_spec(policy)) for policy in own):
            yield f"namespace {namespace} has no default-deny NetworkPolicy: add one"


def _denies_all(spec: Mapping[str, Any]) -> bool:
    everything = not (spec.get("podSelector") or {})
    both = {"Ingress", "Egress"} <= set(spec.get("policyTypes") or ())
    return everything and both and not spec.get("ingress") and not spec.get("egress")


STACK_RULES = (
    StackRule("has-disruption-budget", "Every Deployment has a PodDisruptionBudget", has_disruption_budget),
    StackRule("denies-by-default", "Every namespace with pods has a default-deny policy", denies_by_default),
)
