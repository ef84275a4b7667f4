"""Engines, baselines and load for the benchmarks."""
