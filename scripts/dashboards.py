"""Write monitoring/dashboards/*.json, what users import into Grafana, from the code beside them.

``python scripts/dashboards.py`` writes the files, ``--check`` exits with 1 where one is not current.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from monitoring.dashboards import FOLDER  # noqa: E402 -- the clone comes first on the path
from monitoring.dashboards.files import files  # noqa: E402 -- as above


def main() -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 for a stale file")
    check = parser.parse_args().check
    wanted = files()
    there = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    stale = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
    if check and stale:
        sys.stderr.write(f"monitoring/dashboards: {', '.join(stale)} not current; run: make docs\n")
        return 1
    for name in stale:
        if name in wanted:
            (FOLDER / name).write_text(wanted[name], "utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
