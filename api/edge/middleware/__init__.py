"""What a request passes before a route: pure ASGI, so streams and disconnects pass untouched.

From the outside in: ``RequestContext`` (ids, access log, metrics), ``Cors``, ``Draining``, ``Body`` (size and
time).
"""

from api.edge.middleware.body import Body
from api.edge.middleware.context import RequestContext
from api.edge.middleware.cors import Cors
from api.edge.middleware.draining import Draining
from api.edge.middleware.install import install

__all__ = ["Body", "Cors", "Draining", "RequestContext", "install"]
