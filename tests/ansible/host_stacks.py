"""Stacks for target ``hosts``, as tests want them."""

import tempfile
from pathlib import Path

import yaml

from stackfile import ResolvedStack, load_stack

HOSTS = {
    "name": "s", "target": "hosts", "model": "tiny-codegen", "accelerator": {"kind": "cpu"},
    "auth": {"mode": "keys"},
}  # fmt: skip


def service(**settings: object) -> ResolvedStack:
    """Resolve a stack for hosts with these settings."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.yaml"
        file.write_text(yaml.safe_dump(HOSTS | settings))
        return load_stack(file)
