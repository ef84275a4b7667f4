"""The rule file of a stack, for Prometheus' ``rule_files`` and for the operator's PrometheusRule."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from monitoring import slo
from stackfile.resolved import ResolvedStack

_ALERTS = Path(__file__).with_name("alerts.yaml")
RUNBOOKS = "docs/runbooks"
BUDGETS = ("AvailabilityBudgetBurn", "FirstTokenBudgetBurn")


@cache
def _causes() -> list[dict[str, Any]]:
    alerts: list[dict[str, Any]] = yaml.safe_load(_ALERTS.read_text("utf-8"))
    return alerts


def alert_names() -> frozenset[str]:
    """Return the names of all alerts of all targets; each has a runbook."""
    return frozenset({*BUDGETS, *(alert["alert"] for alert in _causes())})


def rule_file(stack: ResolvedStack) -> dict[str, Any]:
    """Return the recording rules and the alerts whose metrics exist on the stack's target."""
    indicators = slo.indicators(stack.name, stack.monitoring.objectives)
    records = [rule for each in indicators for rule in slo.recording_rules(each)]
    burns = [_alert(stack, rule) for each in indicators for rule in slo.alerts(each)]
    causes = [_alert(stack, rule) for rule in _causes() if stack.target in rule["targets"]]
    # One group, whose rules are evaluated in order: the alerts read what has just been recorded.
    groups = {"objectives": [*records, *burns], "causes": causes}
    return {"groups": [{"name": f"{stack.name}-{name}", "rules": rules} for name, rules in groups.items()]}


def _alert(stack: ResolvedStack, rule: dict[str, Any]) -> dict[str, Any]:
    window = {"window": rule["window"]} if "window" in rule else {}
    hold = {"for": rule["for"]} if "for" in rule else {}
    return {
        "alert": rule["alert"],
        "expr": _filled(stack, rule["expr"]),
        **hold,
        "labels": {"severity": rule["severity"], "stack": stack.name, **window},
        "annotations": {
            "summary": rule["summary"],
            "doctor": f"assist doctor names the fault {rule['fault']}, or the cause that it follows from",
            "runbook": f"{RUNBOOKS}/{rule['alert']}.md",
        },
    }


def _filled(stack: ResolvedStack, expression: str) -> str:
    """Return the expression for this stack; DCGM's exporter on a cluster knows namespaces, not stacks."""
    namespace = stack.kubernetes.namespace if stack.kubernetes else ""
    gpus = f'namespace="{namespace}"' if stack.kubernetes else f'stack="{stack.name}"'
    for name, value in {"$GPUS": gpus, "$STACK": stack.name, "$NAMESPACE": namespace}.items():
        expression = expression.replace(name, value)
    return expression


def to_yaml(document: dict[str, Any]) -> str:
    """Return the content of a file for Prometheus."""
    return yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
