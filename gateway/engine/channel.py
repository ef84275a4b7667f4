"""The gRPC channel to Triton: load balancing, reconnection, message sizes, and servers that are drained."""

import asyncio
import json
import os
import time
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2_grpc

_MAX_MESSAGE = 32 * 1024 * 1024
# The metadata by whose value a call is assigned to a server.
AFFINITY = "x-assist-affinity"
# Calls with one value go to one server, by consistent hashing over the addresses of a headless service or a
# list, and to the next one while that is absent; calls without go to any. gRPC's proposals A42 and A76, which
# it hides behind a variable so far.
_HASH_VARIABLE = "GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"
_BALANCING = {"ring_hash_experimental": {"requestHashHeader": AFFINITY}}
# No keep-alive pings: GitLab removed theirs because servers answered with too_many_pings.
_OPTIONS = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [_BALANCING]})),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
)
_CHECK_EVERY_S = 0.25


def connect(address: str) -> grpc.aio.Channel:
    """Return a channel to ``address`` (host:port), which belongs to the running event loop."""
    os.environ[_HASH_VARIABLE] = "true"  # read when a channel is made
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


class Servers:
    """The Tritons at ``address``, without those that ``drained_file`` names.

    ``address`` is a gRPC target: ``host:port`` or ``ipv4:10.0.0.2:8001,10.0.0.3:8001``. The file has one
    ``host:port`` a line; a missing file drains none. A change applies to new calls within a quarter of a
    second; calls under way finish on the channel they started on, within ``grace_s`` seconds.
    """

    def __init__(self, address: str, drained_file: Path | None = None, grace_s: float = 60.0) -> None:
        self._scheme = next((each for each in ("ipv4:", "ipv6:") if address.startswith(each)), "")
        self._all = address.removeprefix(self._scheme).split(",")
        self._drained_file = drained_file
        self._grace_s = grace_s
        self._target = ""
        self._checked = float("-inf")
        self._channel: grpc.aio.Channel | None = None
        self._retired: set[asyncio.Task[None]] = set()

    @property
    def has_available(self) -> bool:
        """Return whether a server is left that is not drained."""
        self._apply_drained_file()
        return bool(self._target)

    @property
    def stub(self) -> service_pb2_grpc.GRPCInferenceServiceStub:
        """Return the stub for the servers that are not drained, or for all when every one is."""
        self._apply_drained_file()
        if self._channel is None:
            # Made here and not in __init__: a channel belongs to the event loop that is running.
            self._channel = connect(self._target or self._scheme + ",".join(self._all))
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self._stub

    async def close(self) -> None:
        """Close every channel; calls under way are cancelled."""
        for task in self._retired:
            task.cancel()
        if self._retired:
            await asyncio.wait(self._retired)
        if self._channel is not None:
            await self._channel.close(grace=None)
            self._channel = None

    def _apply_drained_file(self) -> None:
        """Retire the channel when the file's content no longer matches its target."""
        if time.monotonic() - self._checked < _CHECK_EVERY_S:
            return
        self._checked = time.monotonic()
        drained = _lines(self._drained_file) if self._drained_file else frozenset()
        left = [server for server in self._all if server not in drained]
        target = self._scheme + ",".join(left) if left else ""
        if target == self._target:
            return
        self._target = target
        if self._channel is not None:
            task = asyncio.ensure_future(self._channel.close(grace=self._grace_s))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)
            self._channel = None


def _lines(file: Path) -> frozenset[str]:
    try:
        return frozenset(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return frozenset()
