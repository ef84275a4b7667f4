"""Every rule."""

from . import cluster, entry, together, workload
from .base import Resource, Rule, StackRule

RULES: tuple[Rule, ...] = (*workload.RULES, *entry.RULES, *cluster.RULES)
STACK_RULES: tuple[StackRule, ...] = (*together.STACK_RULES, *cluster.STACK_RULES)

__all__ = ["RULES", "STACK_RULES", "Resource", "Rule", "StackRule"]
