"""The generated pages are current, and describe every key of a stack file."""

import re
import subprocess
import sys

import pytest

from stackfile.catalogue import ROOT

PAGES = ROOT / "docs/reference"
SCRIPT = ROOT / "scripts/references.py"


def test_the_pages_are_what_the_code_says():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", ["stack-file.md", "settings.md"])
def test_every_key_has_a_meaning(page):
    rows = re.findall(r"^\| `.*\|$", (PAGES / page).read_text(), re.MULTILINE)
    assert len(rows) > 50
    assert [row for row in rows if not row.rstrip("|").rpartition("|")[2].strip()] == []


def test_a_key_that_the_code_gets_makes_the_page_stale(tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("gateway", "stacks", "catalogue", "docs"):
        (clone / name).symlink_to(ROOT / name)
    subprocess.run(["cp", "-r", ROOT / "stackfile", ROOT / "scripts", clone], check=True)
    cache = clone / "stackfile/stack.py"
    cache.write_text(
        cache.read_text().replace(
            '    kind: Literal["local", "redis"] = "local"\n',
            '    kind: Literal["local", "redis"] = "local"\n    size: int = 1\n',
        )
    )
    command = [sys.executable, "-P", clone / "scripts/references.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "stack-file.md not current" in done.stderr
