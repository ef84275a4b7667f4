"""`assist plan` for target ``gke``: what would stop `pulumi up`, and what it would cost, before it spends."""

from assist.plan_gke.checks import checks

__all__ = ["checks"]
