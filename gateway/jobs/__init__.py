"""Jobs: texts to score and batches to complete, for callers who need no answer at once.

The gateway keeps a record of each job in Redis and puts a message with the job's id on a Celery queue; a
worker (``python -m gateway.worker``) takes one at a time and runs it through the same engine. The records are
the truth and Celery is the delivery: whatever is lost on the way, a record that is not finished is delivered
again.
"""
