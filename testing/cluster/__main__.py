"""A cluster by hand: `python3 -m testing.cluster up simulated|real`, `down`, and commands in the real node."""

import argparse
import subprocess
import sys
from pathlib import Path

from testing import tools
from testing.cluster import real, simulated
from testing.cluster.base import STORAGE_CLASS
from testing.cluster.errors import ClusterError
from testing.tools.kits import cache_folder


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python3 -m testing.cluster", description=__doc__)
    made.add_argument("action", choices=("up", "down", "forward", "enter"))
    made.add_argument("kind", choices=("simulated", "real"))
    made.add_argument("rest", nargs="*", help="forward: the node's port; enter: a command, after --")
    made.add_argument("--gpu-nodes", type=int, default=0, help="simulated nodes with a T4 each")
    return made


def main() -> int:
    """Do what the command line says."""
    given = parser().parse_args()
    module = simulated if given.kind == "simulated" else real
    if reason := tools.missing(*module.KITS):
        raise ClusterError(reason)
    state = cache_folder() / "cluster" / f"state-{given.kind}"
    cluster: simulated.Simulated | real.Real
    if given.kind == "simulated":
        cluster = simulated.Simulated(state, gpu_nodes=given.gpu_nodes)
    else:
        cluster = real.Real(state, gpu_nodes=given.gpu_nodes)
    if given.action == "up":
        cluster.start()
        cluster.apply(STORAGE_CLASS)
        sys.stdout.write(f"export KUBECONFIG={cluster.kubeconfig}\n")
    elif given.action == "down":
        cluster.stop()
    elif isinstance(cluster, real.Real):
        sys.stdout.write(f"{_in_node(cluster, given.action, given.rest)}\n")
    return 0


def _in_node(cluster: real.Real, action: str, rest: list[str]) -> str:
    if action == "forward":
        return f"127.0.0.1:{cluster.forward(int(rest[0]))}"
    return cluster.run(*(Path(part) if part.startswith("/") else part for part in rest))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ClusterError, subprocess.SubprocessError) as error:
        sys.exit(str(error))
