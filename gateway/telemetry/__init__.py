"""Logs, metrics and usage records, none of which holds a prompt, a completion or a key."""
