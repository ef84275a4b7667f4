"""Names and labels, the same for every resource: teardown, cost reports and selectors rely on them."""

from stackfile import ResolvedStack

PROJECT = "ai-assist"


def labels(service: ResolvedStack, component: str) -> dict[str, str]:
    """Return the recommended labels of one part (kubernetes.io/docs, "Recommended Labels")."""
    return selector(service, component) | {
        "app.kubernetes.io/part-of": PROJECT,
        "app.kubernetes.io/component": component,
    }


def selector(service: ResolvedStack, component: str) -> dict[str, str]:
    """Return the labels that pick one part's pods. Never to change: a Deployment's selector is immutable."""
    return {"app.kubernetes.io/name": component, "app.kubernetes.io/instance": service.name}
