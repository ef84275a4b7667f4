"""What a stack registers, recorded with Pulumi's mocks."""

from pathlib import Path

import pytest

from tests.infra.k8s.recorder import Recorder, deploy, stack


@pytest.fixture
def plain(tmp_path: Path) -> Recorder:
    """Return what a stack registers that sets nothing but what it must."""
    return deploy(stack(tmp_path), {})
