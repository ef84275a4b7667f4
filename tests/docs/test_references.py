"""The generated pages are current and complete, and what a release needs is checked."""

import re
import subprocess
import sys

import pytest

from scripts import references, release_check
from stackfile.catalogue import ROOT
from stackfile.version import VERSION

PAGES = {"reference/settings.md": references.settings_page, "reference/stack-file.md": references.stack_page}
CURRENT = PAGES | {"faults.md": references.faults_page}


@pytest.mark.parametrize("name", CURRENT)
def test_the_generated_page_is_current(name):
    assert (ROOT / "docs" / name).read_text("utf-8") == CURRENT[name](), "run: make docs"


@pytest.mark.parametrize("name", PAGES)
def test_every_row_has_a_meaning(name):
    rows = [line for line in PAGES[name]().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert not [
        row for row in rows if not row.rstrip("| ").rpartition("|")[2].strip() or row.endswith("|  |")
    ]


def test_a_settings_stack_key_is_found_by_its_effect():
    keys = references.stack_keys()
    assert keys["ASSIST_DEADLINE_S"] == "`limits.deadline_s`"
    assert keys["USE_LOCAL_CACHE"] == "`cache.kind`"
    assert "ASSIST_KEYS_FILE" not in keys


def test_a_stale_page_fails_the_check(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "PAGES", tmp_path)
    monkeypatch.setattr(sys, "argv", ["references", "--check"])
    assert references.main() == 1
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["references"])
    assert references.main() == 0
    monkeypatch.setattr(sys, "argv", ["references", "--check"])
    assert references.main() == 0


def test_links_between_the_pages_and_their_anchors_exist():
    """The site's own check (`make docs`) says the same; this one needs no generator."""
    pages = {page: page.read_text("utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
    broken = []
    for page, text in pages.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            there = (page.parent / path).resolve() if path else page
            if not there.exists() or (anchor and anchor not in _anchors(there.read_text("utf-8"))):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def _anchors(text):
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_a_release_needs_its_changelog_and_one_version():
    assert (
        list(release_check.changelog(f"## Unreleased\n\n## {VERSION} - 2026-11-29\n\n- x\n", VERSION)) == []
    )
    assert len(list(release_check.changelog("## Unreleased\n\n- x\n", VERSION))) == 2
    assert list(release_check.mentions(VERSION)) == []
    assert list(release_check.mentions("9.9.9"))


def test_the_version_stands_in_one_place():
    found = subprocess.run(
        ["git", "grep", "-lP", rf"(?<![\d.]){re.escape(VERSION)}(?![\d.])", "--", "*.py", "pyproject.toml", "images", "scripts"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout.split() == ["stackfile/version.py"]
