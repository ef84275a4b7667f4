"""Which Python package index is configured: the settings of uv and pip, in that order of precedence."""

import configparser
import netrc
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from model_loader.errors import SourceError

DEFAULT_INDEX = "https://pypi.org/simple"
_FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class IndexSettings:
    """``addresses``: the indexes in the order in which they are asked; ``ca``: PEM file of authorities."""

    addresses: tuple[str, ...]
    ca: Path | None = None


def index_settings(environ: Mapping[str, str]) -> IndexSettings:
    """Return the configured indexes: the variables of uv, then of pip, then uv.toml, then pip.conf.

    Raises SourceError where the settings forbid any index (PIP_NO_INDEX, UV_NO_INDEX, UV_OFFLINE).
    """
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        if environ.get(name, "").lower() not in _FALSE:
            raise SourceError(f"package index: {name} is set, so no index is asked; unset it to use one.")
    pip, uv = _pip_files(environ), _uv_files(environ)
    first = (
        environ.get("UV_DEFAULT_INDEX")
        or environ.get("UV_INDEX_URL")
        or environ.get("PIP_INDEX_URL")
        or _uv_default(uv)
        or _pip_value(pip, "index-url")
        or DEFAULT_INDEX
    )
    extra = [environ.get(name, "") for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL")]
    listed = [*_uv_others(uv), *_pip_value(pip, "extra-index-url").split()]
    named = [first, *" ".join(extra).split(), *listed]
    # uv writes a named index as NAME=ADDRESS; an address has no `=` before its scheme.
    addresses = [a.partition("=")[2] if "=" in a.partition("://")[0] else a for a in named]
    cert = environ.get("PIP_CERT") or _pip_value(pip, "cert")
    return IndexSettings(tuple(dict.fromkeys(addresses)), Path(cert) if cert else None)


def _pip_files(environ: Mapping[str, str]) -> configparser.RawConfigParser:
    home = Path(environ.get("HOME", "/nonexistent"))
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = environ.get("PIP_CONFIG_FILE")
    parser = configparser.RawConfigParser(strict=False)
    if named != os.devnull:
        files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", config_home / "pip/pip.conf"]
        parser.read([*files, *([named] if named else [])], encoding="utf-8")
    return parser


def _pip_value(files: configparser.RawConfigParser, option: str) -> str:
    text = files.get("install", option, fallback="") or files.get("global", option, fallback="")
    return " ".join(text.split())


def _uv_files(environ: Mapping[str, str]) -> list[dict[str, object]]:
    home = Path(environ.get("HOME", "/nonexistent"))
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = environ.get("UV_CONFIG_FILE")
    files = [Path(named)] if named else [config_home / "uv/uv.toml", Path("/etc/uv/uv.toml")]
    documents: list[dict[str, object]] = []
    for file in files:
        try:
            documents.append(tomllib.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot read {file.name} of uv ({error}); correct it.") from None
    return documents


def _uv_indexes(files: list[dict[str, object]]) -> list[dict[str, object]]:
    lists = [document.get("index") for document in files]
    return [row for rows in lists if isinstance(rows, list) for row in rows if isinstance(row, dict)]


def _uv_default(files: list[dict[str, object]]) -> str:
    marked = [row.get("url") for row in _uv_indexes(files) if row.get("default") is True]
    return next((str(url) for url in [*marked, *(f.get("index-url") for f in files)] if url), "")


def _uv_others(files: list[dict[str, object]]) -> list[str]:
    return [
        str(row["url"]) for row in _uv_indexes(files) if row.get("url") and row.get("default") is not True
    ]


def credentials(address: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the address without its user and password, and these as ``user:password`` or None.

    Without any in the address they are those of the machine's netrc file. Raises SourceError for an invalid
    address or netrc file.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError as error:
        raise SourceError(f"the address of the package index is invalid ({error}).") from None
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.username is not None:
        return bare, f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    file = Path(environ.get("NETRC") or Path(environ.get("HOME", "/nonexistent")) / ".netrc")
    try:
        entry = netrc.netrc(str(file)).authenticators(host) if file.is_file() else None
    except (OSError, netrc.NetrcParseError) as error:
        raise SourceError(f"cannot read {file.name} ({type(error).__name__}); correct it.") from None
    return bare, f"{entry[0]}:{entry[2]}" if entry else None
