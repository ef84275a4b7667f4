"""kube-score on a folder of manifests."""

import json
import subprocess
from pathlib import Path

import pytest

from testing import tools

KUBERNETES = "v1.36"
# Of the grades from 1 (critical) to 10; 5 is a warning, 7 almost well.
BEST = 10


def program() -> Path:
    """Return the pinned kube-score; skips, with the remedy, where it is not here."""
    if reason := tools.missing("kube-score"):
        pytest.skip(reason)
    return tools.file("kube-score", "kube-score")


def scan(folder: Path) -> dict[str, set[str]]:
    """Return the objects, as kind and name, by the check that they fail; optional checks count as well.

    One variant at a time: objects of the same name would be taken for each other.
    """
    files = sorted(folder.glob("[0-9]*.yaml"))
    options = ["--all-default-optional", "--disable-ignore-checks-annotations", "--output-format=json"]
    done = subprocess.run(
        [program(), "score", *options, f"--kubernetes-version={KUBERNETES}", *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    objects = json.loads(done.stdout)
    assert len(objects) > len(files) / 2, f"it knows no quotas and claims, but most kinds: {done.stderr}"
    found: dict[str, set[str]] = {}
    for item in objects:
        kind, *_, name = item["object_name"].split("/")
        for check in item["checks"]:
            if check["grade"] < BEST and not check["skipped"]:
                found.setdefault(check["check"]["id"], set()).add(f"{kind}/{name}")
    return found
