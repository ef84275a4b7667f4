"""Fixtures of the fault rows: real processes, each test with a gateway of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from testing.doubles.fake_gitlab import gitlab
from testing.doubles.fake_triton import FakeTritonThread
from testing.doubles.fault_proxy import proxied_triton
from testing.servers.gateway_process import Gateway, running_gateway
from testing.servers.redis_server import redis_server

__all__ = ["gitlab", "proxied_triton", "redis_server"]

StartGateway = Callable[..., Gateway]


@pytest.fixture
def fake_triton() -> Iterator[FakeTritonThread]:
    """Run an engine that computes nothing and fails on command."""
    thread = FakeTritonThread()
    yield thread
    thread.close()


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Start gateways that end with the test."""
    with ExitStack() as stack:

        def start(grpc: str, **settings: object) -> Gateway:
            return stack.enter_context(running_gateway(grpc, tmp_path, **settings))

        yield start


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for a whole module, in front of an engine that computes nothing."""
    thread = FakeTritonThread()
    with running_gateway(thread.address, tmp_path_factory.mktemp("gateway"), wait_for="/ready") as gateway:
        yield gateway
    thread.close()
