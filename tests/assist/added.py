"""A catalogue of its own for tests that add models to it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackfile import catalogue


@pytest.fixture
def own_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copy the project's catalogue without added models, and return the file of those that a test adds."""
    folder = tmp_path / "catalogue"
    shutil.copytree(catalogue.DIRECTORY, folder, ignore=shutil.ignore_patterns("added.yaml"))
    monkeypatch.setattr(catalogue, "DIRECTORY", folder)
    catalogue.models.cache_clear()
    yield folder / "added.yaml"
    catalogue.models.cache_clear()
