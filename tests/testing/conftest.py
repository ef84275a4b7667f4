"""A cache and pins of the test's own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.tools import kits as pins
from tests.testing.release_server import ReleaseServer, serving

Pin = Callable[..., Path]


@pytest.fixture
def releases() -> Iterator[ReleaseServer]:
    with serving() as running:
        yield running


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


@pytest.fixture
def pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Return what pins one kit, ``demo``, in place of the project's, and returns the cache's folder of kits."""

    def write(debian: dict[str, list[str]] | None = None, **table: Any) -> Path:
        whole = {"version": "1.0", "purpose": "a test", "files": ["demo"]} | table
        kits = {"demo": whole, "go": {"version": "1.26.8", "purpose": "a test", "files": ["sdk/bin/go"]}}
        lines = [f"debian = {_toml(debian or {})}", f"kits = {_toml(kits)}"]
        (tmp_path / "pins.toml").write_text("\n".join(lines))
        pins.kits.cache_clear()
        return tmp_path / "cache/ai-assist/tools"

    monkeypatch.setattr(pins, "PINS", tmp_path / "pins.toml")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield write
    monkeypatch.undo()
    pins.kits.cache_clear()
