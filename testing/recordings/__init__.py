"""Recorded requests of real clients and servers, as JSON."""
