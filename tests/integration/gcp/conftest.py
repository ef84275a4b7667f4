"""A double of Google and a fresh workspace for each test marked ``gcp``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from testing.gcp.double import Double, missing
from testing.gcp.engine import Workspace


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Double]:
    """Start Google's APIs with an empty project, on a free port of the loopback."""
    if reason := missing():
        pytest.skip(reason)
    running = Double.start(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def workspace(tmp_path: Path, double: Double) -> Workspace:
    """Return the Google half of the program on the stack ``gke-dev``, nothing made yet."""
    made = Workspace(tmp_path, double, "gke-dev")
    made.prepare(ROOT / "stacks/gke-dev.yaml")
    return made
