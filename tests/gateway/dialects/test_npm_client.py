"""OpenAI's Node.js client works unchanged."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from testing import needs
from testing.servers.gateway import gateway

NPM = Path(__file__).resolve().parents[2] / "npm"
pytestmark = [pytest.mark.triton, pytest.mark.npm]


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None or _major(found) < 20:
        needs.skip("OpenAI's client supports no Node.js before 20", needs.TOOLS)
    if not (NPM / "node_modules" / "openai").is_dir():
        needs.skip("OpenAI's client is not installed", "npm ci --prefix tests/npm")
    return found


def _major(node: str) -> int:
    """Return Node.js's major version; Debian 12's own is 18."""
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return int(said.removeprefix("v").partition(".")[0])


def test_the_node_client_completes_streams_lists_and_sees_errors(node, triton):
    with gateway(triton.model_dir, triton.grpc) as running:
        done = subprocess.run(
            [node, "completions.mjs", f"{running.url}/v1"],
            cwd=NPM, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["text"]
    assert found["streamed"] == found["text"]
    assert found["streamedUsage"] == found["usage"]
    assert found["models"] == ["tiny-codegen"]
    assert found["errors"] == [
        {"kind": "NotFoundError", "status": 404, "code": "model_not_found"},
        {"kind": "BadRequestError", "status": 400, "code": None},
    ]
