"""Fixtures of the edge's tests; the plug-in list of the root must name modules, so they are imported here."""

from tests.support.fake_gitlab import gitlab
from tests.support.fake_issuer import issuer
from tests.support.redis_server import redis_server

__all__ = ["gitlab", "issuer", "redis_server"]
