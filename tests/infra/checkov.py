"""checkov on a folder of ours."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from stackfile.catalogue import ROOT
from testing import needs

_OWN = ROOT / ".run/venvs/checkov/bin/checkov"


def scan(folder: Path, framework: str) -> dict[str, list[dict[str, Any]]]:
    """Return the checks under ``passed_checks`` and ``failed_checks``; skips, with the remedy, without checkov."""
    checkov = str(_OWN) if _OWN.exists() else shutil.which("checkov")
    if checkov is None:
        needs.skip(
            "checkov is not installed", "scripts/bootstrap .run/venvs/checkov requirements/checkov.txt"
        )
    run = ["--directory", ".", "--framework", framework, "--skip-download", "--output", "json"]
    done = subprocess.run(
        [checkov, *run], cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )
    results: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)["results"]
    return results
