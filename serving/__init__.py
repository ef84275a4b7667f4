"""Weight conversion, the Triton model repository, the server's command and its Python backend."""
