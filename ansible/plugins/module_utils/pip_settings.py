"""Translate the user's pip settings for uv, so that a mirror or a private CA set for pip applies here, too.

uv does not read pip.conf (docs.astral.sh/uv, "Compatibility with pip"). The user's own settings for uv take
precedence. Run as a program, this module prints ``export`` lines for a shell. Standard library only: it runs
before anything is installed, and on every managed host.
"""

import configparser
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

# pip's option -> uv's variable. A list in pip (blank-separated) is a list in uv, too.
OPTIONS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to add to ``environ`` for uv; none for what uv is already configured for."""
    files = _config_files(environ)
    pip = {option: _value(option, environ, files) for option in OPTIONS}
    settings = {OPTIONS[option]: value for option, value in pip.items() if value}
    if "UV_FIND_LINKS" in settings:  # uv stops at a folder that does not exist; pip ignores it
        settings["UV_FIND_LINKS"] = " ".join(filter(_reachable, settings["UV_FIND_LINKS"].split()))
    if (
        "SSL_CERT_FILE" not in settings
    ):  # pip trusts what the system trusts; uv's own list lacks a company's CA
        settings["UV_SYSTEM_CERTS"] = "true"
    return {name: value for name, value in settings.items() if value and name not in environ}


def _reachable(link: str) -> bool:
    return "://" in link or Path(link).exists()


def _value(option: str, environ: Mapping[str, str], files: configparser.RawConfigParser) -> str:
    variable = "PIP_" + option.upper().replace("-", "_")
    if variable in environ:
        return environ[variable]
    text = files.get("install", option, fallback="") or files.get("global", option, fallback="")
    return " ".join(text.split())


def _config_files(environ: Mapping[str, str]) -> configparser.RawConfigParser:
    """Read pip's files in pip's order, later ones win (pip.pypa.io, "Configuration")."""
    home = Path(environ.get("HOME", "/nonexistent"))
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(environ["PIP_CONFIG_FILE"])] if environ.get("PIP_CONFIG_FILE") else []
    parser = configparser.RawConfigParser(strict=False)
    if named != [Path(os.devnull)]:
        parser.read(
            [Path("/etc/pip.conf"), home / ".pip/pip.conf", config_home / "pip/pip.conf", *named],
            encoding="utf-8",
        )
    return parser


if __name__ == "__main__":
    for name, value in uv_environment(os.environ).items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
