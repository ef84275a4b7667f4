"""What goes wrong with a cluster."""


class ClusterError(Exception):
    """A cluster did not become what it should; the message says which part, and what its log says."""


class PortTakenError(ClusterError):
    """Another process has taken a port between our look and our use of it: other ports may do."""
