"""The committed dashboards, as their readers' browsers evaluate them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monitoring.dashboards import FOLDER

# A metric and its matchers, as in `up{job="gateway", stack="tiny"}`; in them, the labels.
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


@dataclass(frozen=True)
class Shown:
    """One expression of one panel."""

    board: str
    panel: str
    kind: str
    expression: str
    legend: str

    @property
    def labels(self) -> set[str]:
        """Return the labels that every series of the result must have."""
        found = set(re.findall(r"\{\{(\w+)\}\}", self.legend))
        if self.kind == "table" and (grouped := GROUPED.search(self.expression)):
            found |= {name.strip() for name in grouped[1].split(",")}
        return found

    def selectors(self) -> dict[str, set[str]]:
        """Return the labels that the expression reads, by metric."""
        found: dict[str, set[str]] = {}
        for metric, matchers in SELECTOR.findall(self.expression):
            found.setdefault(metric, set()).update(LABEL.findall(re.sub(r'"[^"]*"', '""', matchers)))
        return found

    def filled(self, values: dict[str, str]) -> str:
        """Return the expression as the browser sends it; an unknown variable raises ``KeyError``."""
        return VARIABLE.sub(lambda match: values[match[1].strip("{}")], self.expression)


def documents() -> dict[str, dict[str, Any]]:
    """Return each dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels that show something: rows are headings."""
    for panel in document["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


def shown() -> list[Shown]:
    """Return every expression of every panel."""
    return [
        Shown(name, panel["title"], panel["type"], target["expr"], target.get("legendFormat", ""))
        for name, document in documents().items()
        for panel in panels(document)
        for target in panel["targets"]
    ]
