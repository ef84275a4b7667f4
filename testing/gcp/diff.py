"""What differs between what is asked for and what Pulumi's state has, and whether that makes a new resource."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from testing.gcp.kinds.base import Inputs, Kind
from testing.gcp.kinds.places import Where
from testing.gcp.values import UNKNOWN, to_wire

_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """``path`` is the property's, with indices; ``verb``: add, delete or update."""

    path: str
    verb: str
    replaces: bool = False

    @property
    def top(self) -> str:
        """Return the name of the property that the path begins with."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]


@dataclass(frozen=True)
class Difference:
    """All changes of one resource."""

    changes: tuple[Change, ...]
    delete_first: bool = False

    @property
    def replaces(self) -> list[str]:
        """Return the properties for which a new resource must be made."""
        return sorted({one.top for one in self.changes if one.replaces})


def difference(
    kind: Kind, *, before: Inputs, state: Inputs, asked: Inputs, where: Where, ignored: list[str]
) -> Difference:
    """Compare ``asked`` with the outputs in ``state``; ``before``: the inputs that made those.

    What was never asked for is Google's to decide. What was and is no more goes back to Google's default.
    """
    compared = _Comparison(kind)
    found = [*compared.objects("", before, state, asked), *_defaults(kind, state, asked, where)]
    kept = tuple(one for one in found if not any(_within(one.path, path) for path in ignored))
    fixed = (
        kind.autoname is not None
        and "name" not in asked.get("__defaults", ())
        and asked.get("name") == state.get("name")
    )
    return Difference(kept, delete_first=fixed and any(one.replaces for one in kept))


class _Comparison:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def objects(self, path: str, before: Any, state: Any, asked: dict[str, Any]) -> Iterator[Change]:
        before = before if isinstance(before, dict) else {}
        state = state if isinstance(state, dict) else {}
        for name in [*asked, *(one for one in before if one not in asked)]:
            if not name.startswith("__"):
                at = f"{path}.{name}" if path else name
                default = self.kind.local.get(name) if not path else None
                new = asked.get(name, _ABSENT)
                old = state.get(name, _ABSENT if default is None else default)
                yield from self.values(at, before.get(name, _ABSENT), old, new)

    def values(self, path: str, before: Any, state: Any, asked: Any) -> Iterator[Change]:
        plain = re.sub(r"\[\d+\]", "", path)
        if asked is _ABSENT:
            if state is not _ABSENT and before is not _ABSENT:
                yield from self._removed(path, before, state)
        elif asked is UNKNOWN:
            yield self._change(path, "update", state, asked)
        elif isinstance(asked, dict) and (isinstance(state, dict) or state is _ABSENT):
            if state is _ABSENT and not asked:
                return
            yield from self.objects(path, before, state, asked)
        elif isinstance(asked, list) and isinstance(state, list):
            yield from self._lists(path, plain, before, state, asked)
        elif state is _ABSENT:
            if asked not in ([], "", False, 0):
                yield self._change(path, "add", None, asked)
        elif not self.kind.same(plain, asked, state):
            yield self._change(path, "update", state, asked)

    def _lists(
        self, path: str, plain: str, before: Any, state: list[Any], asked: list[Any]
    ) -> Iterator[Change]:
        if plain in self.kind.sets:
            if _unordered(state) != _unordered(asked):
                yield self._change(path, "update", state, asked)
            return
        before = before if isinstance(before, list) else []
        for index, item in enumerate(asked):
            old = state[index] if index < len(state) else _ABSENT
            yield from self.values(
                f"{path}[{index}]", before[index] if index < len(before) else _ABSENT, old, item
            )
        for index in range(len(asked), len(state)):
            yield self._change(f"{path}[{index}]", "delete", state[index], None)

    def _removed(self, path: str, before: Any, state: Any) -> Iterator[Change]:
        """Yield the leaves that were asked for and are no more: one of them may force a new resource."""
        if isinstance(before, dict) and isinstance(state, dict) and before:
            for name, value in before.items():
                yield from self._removed(f"{path}.{name}", value, state.get(name))
        elif before not in ([], {}, "", False, 0, None):
            yield self._change(path, "delete", state, None)

    def _change(self, path: str, verb: str, old: Any, new: Any) -> Change:
        return Change(path, verb, self.kind.forces(re.sub(r"\[\d+\]", "", path), old, new))


def _defaults(kind: Kind, state: Inputs, asked: Inputs, where: Where) -> Iterator[Change]:
    """Yield what changes because the provider is configured in another way: project, region, labels."""
    for name, value in (("project", where.project), ("region", where.region)):
        if name not in asked and value and state.get(name, value) != value and name in kind.replaces:
            yield Change(name, "update", replaces=True)
    if kind.labels is not None:
        given = asked.get(kind.labels) or {}
        if given is not UNKNOWN and state.get("pulumiLabels") != where.labels | given:
            yield Change("pulumiLabels", "update")


def _unordered(items: list[Any]) -> list[str]:
    return sorted(json.dumps(to_wire(one), sort_keys=True) for one in items)


def _within(path: str, ignored: str) -> bool:
    return path == ignored or path.startswith((f"{ignored}.", f"{ignored}["))
