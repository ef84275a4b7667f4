"""What the benchmarks share: engines, baselines and load."""
