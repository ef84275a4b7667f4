"""A machine that is cut off: namespaces of its own, where every attempt to leave is counted."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from testing import needs

SCRIPT = Path(__file__).with_name("cut-off.sh")
# Nothing outlives the command: its processes are in a namespace that ends with it.
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
TOOLS = {"unshare": "util-linux", "ip": "iproute2", "nft": "nftables", "make": "make", "git": "git"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The machine's own settings for pip name places that are not there; nobody may ask them.
PLACES = """[global]
index-url = http://index.example.org/simple
find-links = http://wheels.example.org/
"""


@dataclass(frozen=True)
class CutOff:
    """What a command did: its output, and how many packets wanted to leave, by what they were for."""

    done: subprocess.CompletedProcess[str]
    left: dict[str, int]


def run(work: Path, folder: Path, *command: str) -> CutOff:
    """Run ``command`` in ``folder``; ``work`` is its home, so no cache of this machine helps it."""
    settings = work / "etc/pip/pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text(PLACES)
    environment = {"PATH": PATH, "HOME": str(work), "XDG_CONFIG_DIRS": str(work / "etc")}
    done = subprocess.run(
        [*UNSHARE, SCRIPT, work, *command],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    file = work / "counters.json"
    assert file.exists(), done.stdout + done.stderr
    rows = [item["counter"] for item in json.loads(file.read_text())["nftables"] if "counter" in item]
    return CutOff(done, {row["name"]: row["packets"] for row in rows})


def require(work: Path) -> None:
    """Skip, with what would help, where such a machine can't be made."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        needs.skip(f"not installed: {', '.join(missing)}", needs.TOOLS)
    needs.root("make network and mount namespaces")
    python = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 11))"], check=False
    )
    if python.returncode:
        needs.skip(
            "/usr/bin/python3 is not Python 3.11, which the bundle is built for", "make test on Debian 12"
        )
    done = subprocess.run([*UNSHARE, SCRIPT, work, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        needs.skip(
            f"this machine can't make namespaces, veth, overlay or nftables rules: {done.stderr.strip()[-300:]}",
            needs.PRIVILEGED,
        )
