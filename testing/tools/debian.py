"""Debian's packages: which are missing, and how they are installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from testing.tools.kits import Kit, Package, load

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def packages() -> list[Package]:
    """Return every package that some test needs."""
    return load()[1]


def is_installed(package: Package) -> bool:
    """Return whether the package's program, library or file exists, from whatever source."""
    sign = package.sign
    if sign.startswith("/"):
        return Path(sign).exists()
    if sign.startswith("lib") and ".so" in sign:
        multiarch = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
        folders = (f"/usr/lib/{multiarch}", f"/lib/{multiarch}", "/usr/lib64", "/usr/lib", "/usr/local/lib")
        return any((Path(folder) / sign).exists() for folder in folders)
    where = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    return shutil.which(sign, path=where) is not None


def missing_packages() -> list[Package]:
    """Return the packages that are not there."""
    return [package for package in packages() if not is_installed(package)]


def install_command(names: list[str]) -> list[str]:
    """Return the command that installs packages; as root, without sudo."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
    return command if os.geteuid() == 0 else ["sudo", *command]


def install(names: list[str]) -> None:
    """Install packages.

    Raises:
        RuntimeError: Where that fails; apt-get has said why.

    """
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run([*prefix, "apt-get", "update", "-qq"], env=environment, check=False)
    if subprocess.run(install_command(names), env=environment, check=False).returncode:
        raise RuntimeError(f"apt-get could not install {' '.join(names)} (see above)")


def may_install(names: list[str], yes: bool) -> bool:
    """Return whether packages may be installed: as root, with ``--yes``, or where a user at a terminal agrees."""
    if os.geteuid() == 0 or yes:
        return True
    if not sys.stdin.isatty():
        return False
    answer = input(f"Run `{' '.join(install_command(names))}`? [y/N] ")
    return answer.strip().lower() in {"y", "yes"}


def unpack(kit: Kit, target: Path) -> None:
    """Download the kit's packages and unpack them into ``target``; nothing is installed, so no service starts.

    Raises:
        RuntimeError: Where Debian's archive can't be reached, or lacks one.

    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise RuntimeError(f"{kit.name} comes from Debian's archive, and this system is not Debian")
    archives = target.with_name("archives")
    archives.mkdir(mode=0o755)
    # As root, apt-get would else download as a user that may not enter this folder, and say so.
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *kit.debian]
    done = subprocess.run(command, cwd=archives, check=False)
    if done.returncode:
        raise RuntimeError(f"apt-get could not download {' '.join(kit.debian)}; is `apt-get update` needed?")
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", archive, target], check=True)
