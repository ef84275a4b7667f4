"""The reader of stack files: resolves ``stacks/`` with the catalogue into one complete ResolvedStack."""

from stackfile.errors import Problem, StackFileError
from stackfile.resolve import load_stack, stack_file
from stackfile.resolved import ResolvedStack

__all__ = ["Problem", "ResolvedStack", "StackFileError", "load_stack", "stack_file"]
