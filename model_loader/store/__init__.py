"""The model store: staging, publication by rename, verification, pruning."""
