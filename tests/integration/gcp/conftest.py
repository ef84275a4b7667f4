"""Google and a fresh workspace for each test marked ``gcp``: the double, or a user's own project."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from testing import needs
from testing.gcp.double import Double, Google, is_real, missing
from testing.gcp.engine import Workspace
from testing.gcp.gate import Gate
from testing.gcp.real import RealGoogle


@pytest.fixture
def google(tmp_path: Path) -> Google:
    """Return the double with an empty project, or with ``ASSIST_REAL_GCP=1`` the project of ``GOOGLE_PROJECT``."""
    if reason := missing():
        pytest.skip(reason)
    return RealGoogle.of_environment() if is_real() else Double(tmp_path)


@pytest.fixture
def double(google: Google) -> Double:
    """Return the double, for what nobody can ask of Google itself."""
    if not isinstance(google, Double):
        needs.skip("Google itself has no faults to order", "ASSIST_REAL_GCP= make test")
    return google


@pytest.fixture
def workspace(tmp_path: Path, google: Google) -> Iterator[Workspace]:
    """Return the Google half of the program on the stack ``gke-dev``, nothing made yet."""
    made = Workspace(tmp_path, google, "gke-dev")
    made.prepare(ROOT / "stacks/gke-dev.yaml")
    yield made
    made.end()


@pytest.fixture
def gate(double: Double) -> Gate:
    """Return a gate between the provider and Google, open."""
    return Gate(double)
