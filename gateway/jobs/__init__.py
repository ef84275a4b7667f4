"""Jobs: texts to score and batches to complete, for callers that need no immediate response.

The gateway keeps a record of each job in Redis and puts a message with the job's id on a Celery queue; a
worker (``python -m gateway.worker``) takes one at a time and runs it on the same engine. The records are the
truth and Celery is the delivery: when a message is lost, its unfinished record is delivered again.
"""
