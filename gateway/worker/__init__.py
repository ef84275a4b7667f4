"""The worker: the process that runs jobs from the queue on the gateway's engine."""
