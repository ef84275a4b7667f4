"""The model in the repository is whole, small and under its licence."""

import hashlib
import json

from testing.servers.triton import TINY


def test_every_file_of_the_manifest_is_there_unchanged():
    manifest = json.loads((TINY / "manifest.json").read_text())
    assert len(manifest["files"]) == 5
    for entry in manifest["files"]:
        data = (TINY / entry["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])


def test_it_stays_within_eight_megabytes():
    assert sum(path.stat().st_size for path in TINY.rglob("*") if path.is_file()) <= 8_000_000


def test_the_licence_of_its_training_text_is_beside_it():
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in (TINY / "LICENSE.PSF").read_text()
