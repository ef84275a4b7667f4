"""Names and labels, the same for every resource: teardown, cost reports and selectors depend on them."""

from stackfile import ResolvedStack

PROJECT = "ai-assist"


def labels(stack: ResolvedStack, component: str) -> dict[str, str]:
    """Return the recommended labels of one component (kubernetes.io/docs, "Recommended Labels")."""
    return selector(stack, component) | {
        "app.kubernetes.io/part-of": PROJECT,
        "app.kubernetes.io/component": component,
    }


def selector(stack: ResolvedStack, component: str) -> dict[str, str]:
    """Return the labels that select one component's pods. Never change them: selectors are immutable."""
    return {"app.kubernetes.io/name": component, "app.kubernetes.io/instance": stack.name}
