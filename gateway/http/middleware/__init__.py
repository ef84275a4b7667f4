"""What a request passes before a route: pure ASGI, so streams and disconnects pass untouched.

From the outside in: ``RequestContext`` (ids, access log, metrics), ``Cors``, ``Draining``, ``Body`` (size and
time).
"""

from gateway.http.middleware.body import Body
from gateway.http.middleware.context import RequestContext
from gateway.http.middleware.cors import Cors
from gateway.http.middleware.draining import Draining
from gateway.http.middleware.install import install

__all__ = ["Body", "Cors", "Draining", "RequestContext", "install"]
