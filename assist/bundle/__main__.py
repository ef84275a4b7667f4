"""``python3 -m assist.bundle``: verify and install bundles with nothing but Python."""

import argparse
import json
import os
import sys
from pathlib import Path

from assist.bundle import archive, install, signatures
from assist.bundle.errors import BundleError
from assist.bundle.manifest import BundleManifest
from assist.bundle.paths import BundlePaths
from assist.paths import Paths


class Percent:
    """Progress as one line on a terminal; silent elsewhere."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._shown = max(total, 1), 0, -1

    def __call__(self, count: int) -> None:
        """Count bytes."""
        self._done += count
        percent = min(100, 100 * self._done // self._total)
        if percent != self._shown and sys.stderr.isatty():
            self._shown = percent
            sys.stderr.write(f"\r{percent:3d} %" + ("\n" if percent == 100 else ""))
            sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m assist.bundle", description=__doc__)
    parser.add_argument("command", choices=("verify", "install"))
    parser.add_argument("archive", type=Path, help="the bundle")
    parser.add_argument("--key", type=Path, required=True, help="public key (.pub) of the bundle's builder")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    return parser


def _run(arguments: argparse.Namespace) -> BundleManifest:
    key = signatures.read_public(arguments.key)
    size = archive.manifest_of(arguments.archive, key).size
    if arguments.command == "verify":
        return archive.verify(arguments.archive, key, Percent(size))
    return install.install(arguments.archive, key, BundlePaths.of(Paths()), Percent(2 * size))


def summary(manifest: BundleManifest, done: str) -> dict[str, object]:
    """Return the result as plain data for JSON."""
    facts = {
        name: getattr(manifest, name) for name in ("stack", "target", "python", "machine", "release", "model")
    }
    return {
        "status": done,
        **facts,
        "bytes": manifest.size,
        "files": len(manifest.files),
        "missing": manifest.missing,
    }


def main() -> int:
    """Return 0 on success, 1 when the bundle is refused; argparse exits with 2 for wrong arguments."""
    os.umask(0o022)
    arguments = _parser().parse_args()
    try:
        manifest = _run(arguments)
    except BundleError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    done = "verified" if arguments.command == "verify" else "installed"
    result = summary(manifest, done)
    text = f"{done}: stack {manifest.stack}, {len(manifest.files)} files, {manifest.size / 2**20:,.1f} MiB"
    sys.stdout.write((json.dumps(result, indent=1) if arguments.json else text) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
