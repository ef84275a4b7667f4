"""Serves models: weight conversion, the Triton model repository, the servers, and the Python backend."""
