"""Reads what a model is from headers and small documents, never from its weights, and runs nothing."""
