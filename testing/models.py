"""Real models for tests: fetched by the project's own loader, once, into the cache of this user."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from testing import needs
from testing.servers.triton import ROOT

# The real models that tests may ask for: 469 and 94 MiB.
SMALL = ("qwen2.5-coder-0.5b-instruct-Q4_K_M", "smollm2-135m-instruct-Q4_1")
_TIMEOUT_S = 1800
# What the loader says when the machine can reach no source; anything else is a fault of the project.
_UNREACHABLE = frozenset({"NoSourceError", "SourceError", "TransientError"})


class UnreachableError(Exception):
    """No source of the model can be reached; the message has the loader's reason."""


def fetch(model: str) -> Path:
    """Return the folder of a GGUF model of the catalogue.

    Raises ``UnreachableError``, and ``RuntimeError`` where the loader fails for another reason.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-assist" / "models"
    command = [sys.executable, "-P", "-m", "model_loader", "fetch", model, "--store", str(cache)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    last = events[-1] if events else {}
    if last.get("event") == "failed" and last["kind"] in _UNREACHABLE:
        raise UnreachableError(last["reason"])
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return (cache / model / "current").resolve()


def fetched(model: str) -> Path:
    """Return the folder of a GGUF model of the catalogue; skip where none of its sources can be reached."""
    try:
        return fetch(model)
    except UnreachableError as error:
        needs.skip(f"the model {model} cannot be fetched: {error}", needs.ONLINE)
    except RuntimeError as error:
        pytest.fail(str(error))
