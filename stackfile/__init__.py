"""One stack file, one reader: what to run (``stacks/``) resolved with the facts (``catalogue/``)."""

from stackfile.errors import Problem, StackFileError
from stackfile.resolve import load_stack
from stackfile.resolved import ResolvedStack

__all__ = ["Problem", "ResolvedStack", "StackFileError", "load_stack"]
