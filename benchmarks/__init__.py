"""The benchmarks: each prints a table and ratios against a named peer."""

import os

# What is measured is started anew in every round, and a user's Python has compiled it once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
