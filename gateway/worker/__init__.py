"""Runs queued jobs (``python -m gateway.worker``) through the same engine as the gateway."""
