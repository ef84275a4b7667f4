"""``assist show``: the resolved stack as YAML or JSON."""

import json
import re
from typing import Any

import yaml
from rich.console import Console
from rich.syntax import Syntax

from stackfile import ResolvedStack

# A proxy's or an engine's URL may carry a user and a password (RFC 3986, 3.2.1).
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]+@")


def document(stack: ResolvedStack) -> dict[str, Any]:
    """Return the resolved stack as plain data, with passwords in URLs replaced by ``***``."""
    shown: dict[str, Any] = _redacted(stack.model_dump(mode="json"))
    return shown


def show(stack: ResolvedStack, console: Console, *, as_json: bool) -> None:
    """Print the resolved stack; a terminal gets it in colour, anything else as it is."""
    if as_json:
        text, language = json.dumps(document(stack), indent=1), "json"
    else:
        text = yaml.safe_dump(document(stack), sort_keys=False, width=110)
        language = "yaml"
    if console.is_terminal:
        console.print(Syntax(text, language, background_color="default"), soft_wrap=True)
    else:
        console.out(text.rstrip("\n"), highlight=False)


def _redacted(value: Any) -> Any:  # noqa: ANN401  -- any JSON
    if isinstance(value, str):
        return _PASSWORD.sub(r"\1:***@", value)
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    return value
