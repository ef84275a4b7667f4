"""One stack file, one reader: what to run (``stacks/``) resolved with the facts (``catalogue/``)."""

from spec.errors import Problem, SpecError
from spec.resolve import load_service
from spec.service import Service

__all__ = ["Problem", "Service", "SpecError", "load_service"]
