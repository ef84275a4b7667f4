"""`make bench`: every benchmark in turn. Each prints its table, its ratios and the load it ran under."""

import os
import subprocess
import sys

NAMES = (
    "bench_editor",
    "bench_engine",
    "bench_gateway",
    "bench_hosts",
    "bench_kubernetes",
    "bench_loader",
    "bench_preview",
    "bench_serving",
)


def main() -> int:
    """Run each benchmark in its own process; return 1 if one of them failed or missed its target."""
    failed = []
    for name in NAMES:
        print(f"\n== {name} (load average {os.getloadavg()[0]:.1f})", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    print(f"\nfailed or missed a target: {', '.join(failed)}" if failed else "\nall targets reached")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
