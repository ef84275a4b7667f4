"""Every rule."""

from . import cluster, cross_resource, exposure, workload
from .base import Resource, Rule, StackRule

RULES: tuple[Rule, ...] = (*workload.RULES, *exposure.RULES, *cluster.RULES)
STACK_RULES: tuple[StackRule, ...] = (*cross_resource.STACK_RULES, *cluster.STACK_RULES)

__all__ = ["RULES", "STACK_RULES", "Resource", "Rule", "StackRule"]
