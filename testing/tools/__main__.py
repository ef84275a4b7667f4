"""`make test-tools`: get what the tests need and this machine lacks. Runs with Debian's python3 alone."""

import argparse
import json
import sys
from typing import Any

from testing.tools import debian
from testing.tools.download import MismatchError, UnreachableError
from testing.tools.find import locate
from testing.tools.get import Plan, get_kit, plan
from testing.tools.golang import BuildError
from testing.tools.kits import kits
from testing.tools.store import folder_of, remove_all, tools_folder


def out(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="make test-tools ARGS=...", description=__doc__)
    made.add_argument("action", nargs="?", choices=("get", "list", "remove"), default="get")
    made.add_argument("--only", metavar="KIT", action="append", default=[], choices=sorted(kits()))
    made.add_argument("--from", dest="source", choices=("auto", "releases", "go"), default="auto")
    made.add_argument("--yes", action="store_true", help="install Debian packages with sudo without asking")
    made.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    made.add_argument("--json", action="store_true", help="list as JSON")
    return made


def listing() -> list[dict[str, Any]]:
    """Return every package and kit: what it is for, its version, and where it was found."""
    rows: list[dict[str, Any]] = []
    for package in debian.packages():
        found = "installed" if debian.is_installed(package) else None
        row = {
            "kind": "debian",
            "name": package.name,
            "version": None,
            "for": package.purpose,
            "found": found,
        }
        rows.append(row)
    for kit in kits().values():
        folders = locate(kit)
        row = {"kind": "kit", "name": kit.name, "version": kit.version, "for": kit.purpose}
        rows.append(row | {"found": str(folders[0]) if folders else None, "cache": str(folder_of(kit))})
    return rows


def show_list(as_json: bool) -> int:
    """Print the listing, as a table or as JSON."""
    rows = listing()
    if as_json:
        out(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        version = row["version"] or "Debian's"
        out(f"{row['name']:<18} {version:<10} {row['found'] or 'missing':<60} {row['for']}")
    return 0


def show_plan(planned: Plan) -> int:
    """Print what would be done."""
    names = [package.name for package in planned.packages]
    if names:
        out(f"would run: {' '.join(debian.install_command(names))}")
    for kit in planned.kits:
        out(f"would get {kit.name} {kit.version} ({planned.how(kit)}) into {folder_of(kit)}: {kit.purpose}")
    if not names and not planned.kits:
        out("nothing is missing")
    return 0


def get_packages(planned: Plan, yes: bool) -> list[str]:
    """Install Debian's packages where that is allowed; return what went wrong."""
    names = [package.name for package in planned.packages]
    if not names:
        return []
    if not debian.may_install(names, yes):
        return [f"not installed: {' '.join(names)}; run: {' '.join(debian.install_command(names))}"]
    try:
        debian.install(names)
    except (RuntimeError, FileNotFoundError) as error:
        return [str(error)]
    return []


def get_all(planned: Plan, yes: bool) -> int:
    """Get everything that is missing; one thing that fails does not keep the others from coming."""
    if not planned.packages and not planned.kits:
        out("test-tools: nothing is missing")
        return 0
    failed = get_packages(planned, yes)
    for kit in planned.kits:
        try:
            out(f"test-tools: {kit.name} {kit.version} is in {get_kit(kit, planned)}")
        except (RuntimeError, UnreachableError, MismatchError, BuildError, OSError) as error:
            failed.append(f"{kit.name}: {error}")
    for line in failed:
        sys.stderr.write(f"test-tools: {line}\n")
    return 1 if failed else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 1 where something is still missing."""
    given = parser().parse_args(arguments)
    if given.action == "list" or given.json:
        return show_list(given.json)
    if given.action == "remove":
        removed = remove_all()
        out(f"removed {len(removed)} kits from {tools_folder()}" if removed else "nothing to remove")
        return 0
    planned = plan(given.source, given.only)
    return show_plan(planned) if given.dry_run else get_all(planned, given.yes)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
