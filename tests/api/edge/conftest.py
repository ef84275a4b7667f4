"""Fixtures of the edge's tests; the plug-in list of the root must name modules, so they are imported here."""

from tests.support.redis_server import redis_server

__all__ = ["redis_server"]
