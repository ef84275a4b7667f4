"""Kubernetes for tests."""
