"""Fixtures: a store that serves v1 and a hub that offers v2."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.doubles.hub import Hub
from tests.model_loader.lab import Lab, publish_v1, version


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(version(2))
    yield server
    server.close()


@pytest.fixture
def lab(tmp_path: Path, hub: Hub) -> Iterator[Lab]:
    root = tmp_path / "store"
    publish_v1(root, tmp_path / "v1")
    laboratory = Lab(root, hub, version(2))
    yield laboratory
    for other in laboratory.others:
        other.close()
