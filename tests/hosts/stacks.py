"""Stacks for target ``hosts``, as tests want them."""

import tempfile
from pathlib import Path

import yaml

from spec import Service, load_service

HOSTS = {
    "name": "s", "target": "hosts", "model": "tiny-codegen", "accelerator": {"kind": "cpu"},
    "auth": {"mode": "keys"},
}  # fmt: skip


def service(**settings: object) -> Service:
    """Resolve a stack for hosts with these settings."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.yaml"
        file.write_text(yaml.safe_dump(HOSTS | settings))
        return load_service(file)
