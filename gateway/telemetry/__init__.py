"""Logs, metrics and usage records; none of them holds a prompt, a completion or a key."""
