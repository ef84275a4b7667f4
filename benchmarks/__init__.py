"""The benchmarks: each prints a table and ratios against a named peer."""

import os

# Every round starts its programs anew, and a user's Python has compiled them once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
