"""What runs behind Triton: weight conversion, the model repository, the server's command and the Python backend."""
