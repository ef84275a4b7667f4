"""The Containerfiles, read: what they build on, as whom their processes run, and that no module is left out."""

import ast
import re
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT

FILES = sorted((ROOT / "images").glob("*.Containerfile"))
NAMES = [file.name.split(".")[0] for file in FILES]
# An image that is another of ours, whose user and packages it has, and one environment more.
LARGER = {"loader-torch": "${LOADER}"}
OURS = {init.parent.name for init in ROOT.glob("*/__init__.py")}
# Modules of a package that its image never runs: they belong to another image or to the control node.
ELSEWHERE = {"serving": {"model_loader"}}


def instructions(file: Path, name: str) -> list[str]:
    text = file.read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{name} ")]


def imported(package: str) -> set[str]:
    """Return which of our packages a package's modules import at their top: what starts, needs these."""
    found = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.split(".")[0] for name in names}
    return (found & OURS) - {package}


@pytest.mark.parametrize("file", [f for f in FILES if f.stem not in LARGER], ids=lambda f: f.stem)
def test_every_package_that_an_images_packages_import_is_in_the_image(file):
    copied = {source.split()[0] for source in instructions(file, "COPY")} & OURS
    assert copied
    for package in copied:
        assert imported(package) - ELSEWHERE.get(package, set()) <= copied, package


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_what_an_image_copies_from_the_clone_is_not_ignored(file):
    allowed = {line[1:] for line in (ROOT / "images/ignore").read_text().splitlines() if line[:1] == "!"}
    sources = [
        part for copy in instructions(file, "COPY") if "--from" not in copy for part in copy.split()[:-1]
    ]
    assert {source if source.startswith("images/") else source.split("/")[0] for source in sources} <= allowed


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_an_image_runs_as_the_user_that_the_pods_name_from_hashed_wheels_alone(file):
    assert file.stem in LARGER or instructions(file, "USER")[-1] == "10001:10001"
    installs = re.findall(r" install .*", file.read_text())
    assert len(installs) >= 3
    assert all("--require-hashes" in install for install in installs)
    assert "sbom.cdx.json" in file.read_text()


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "triton.Containerfile"], ids=lambda f: f.name)
def test_the_base_is_pinned_by_digest(file):
    (base,) = [value for value in instructions(file, "ARG") if value.startswith("BASE=")]
    assert re.fullmatch(r"BASE=docker\.io/library/python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert instructions(file, "FROM") == ["${BASE} AS build", LARGER.get(file.stem, "${BASE}")]
    assert file.stem not in LARGER or not instructions(file, "USER"), "the user stays the other image's"
