"""The sources of model files: a hub, an HTTP mirror, a folder, a tar file."""
