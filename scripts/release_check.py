"""Check that a release can be made of this clone; print what is wrong with the remedy, exit with 1 for any.

The version (``stackfile/version.py``) has a dated section in CHANGELOG.md and no tag yet; the changelog has
nothing unreleased; generated files are current; the clone has no uncommitted change.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from stackfile.version import VERSION  # noqa: E402 -- the clone comes first on the path

GENERATED = {
    "docs/reference and docs/faults.md": (["scripts/references.py", "--check"], "make docs"),
    "monitoring/dashboards": (["scripts/dashboards.py", "--check"], "make docs"),
    "ansible/roles/*/README.md": (["scripts/role_docs.py", "--check"], "python scripts/role_docs.py"),
}


def changelog(text: str, version: str) -> Iterator[str]:
    """Yield what CHANGELOG.md lacks for a release of ``version``."""
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    if sections.get("Unreleased", "").strip():
        yield f"CHANGELOG.md: move the entries under Unreleased to: ## {version} - YYYY-MM-DD"
    dated = [title for title in sections if re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", title)]
    if not dated:
        yield f"CHANGELOG.md: add the section: ## {version} - YYYY-MM-DD"


def mentions(version: str) -> Iterator[str]:
    """Yield the pages of docs/ that name an image of another version."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for tag in re.findall(r"ai-assist/\w+:(\d+\.\d+\.\d+)", page.read_text("utf-8")):
            if tag != version:
                yield f"{page.relative_to(ROOT)}: names images of {tag}; write {version}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def repository(version: str) -> Iterator[str]:
    """Yield what of the repository's state prevents a tag."""
    if _git("status", "--porcelain"):
        yield "the clone has uncommitted changes: commit them"
    if _git("tag", "--list", f"v{version}"):
        yield f"the tag v{version} exists: raise VERSION in stackfile/version.py"


def generated() -> Iterator[str]:
    """Yield the generated files that are not current."""
    for name, (command, remedy) in GENERATED.items():
        if subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=False).returncode:
            yield f"{name}: not current; run: {remedy}"


def main() -> int:
    """Print the problems; return 1 where there are any."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    problems = [*changelog(text, VERSION), *mentions(VERSION), *generated(), *repository(VERSION)]
    for problem in problems:
        sys.stdout.write(f"- {problem}\n")
    if not problems:
        sys.stdout.write(f"ready: git tag -a v{VERSION} -m v{VERSION}\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
