"""Where model files come from: the hub, an HTTP mirror, a folder, an archive."""
