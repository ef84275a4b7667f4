"""The model store: staging, publishing by rename, verification, pruning."""
