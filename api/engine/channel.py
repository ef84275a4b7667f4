"""The gRPC channel to Triton: how it balances, connects again, and how large its messages may be."""

import grpc

_MAX_MESSAGE = 32 * 1024 * 1024
# Balanced over a headless service's addresses, which one connection would pin to a single server. No keep-
# alive pings: GitLab removed theirs because servers answered with too_many_pings.
_OPTIONS = (
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
)


def connect(address: str) -> grpc.aio.Channel:
    """Return a channel to ``address`` (host:port); it belongs to the event loop that is running."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)
