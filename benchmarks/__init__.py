"""The benchmarks: each prints a table and ratios against a named peer."""
