"""Root causes first: what follows from a cause that was found, too, is folded under it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from assist.doctor.faults import BY_NAME
from assist.findings import Finding

# Causes that concern the processes of the unit that they name, and no other's.
_OF_A_UNIT = {"unit-edited", "settings-edited", "secret-missing", "port-taken"}
_ORDER = {"problem": 0, "unknown": 1, "warning": 2, "ok": 3}


def fold(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings with each symptom in its root's ``symptoms``: problems first, what is well last."""
    found = list(findings)
    parents = {id(one): parent for one in found if (parent := _cause(one, found)) is not None}
    followers: dict[int, list[Finding]] = {}
    roots = []
    for one in found:
        root = _root(one, parents)
        if root is one:
            roots.append(one)
        else:
            followers.setdefault(id(root), []).append(one)
    folded = [replace(one, symptoms=tuple(followers.get(id(one), ()))) for one in roots]
    return sorted(folded, key=lambda one: (_ORDER[one.status], -len(one.symptoms)))


def _root(finding: Finding, parents: Mapping[int, Finding]) -> Finding:
    seen = {id(finding)}
    while (parent := parents.get(id(finding))) is not None and id(parent) not in seen:
        finding = parent
        seen.add(id(parent))
    return finding


def _cause(symptom: Finding, found: list[Finding]) -> Finding | None:
    """Return what ``symptom`` follows from: on its own host, at the other end of its path, or anywhere."""
    fault = BY_NAME.get(symptom.fault)
    if fault is None or symptom.status == "ok":
        return None
    places = {symptom.host, symptom.towards or symptom.host}
    near = [one for one in found if one.status == "problem" and (one.host in places or fault.across)]
    likely = [one for one in near if not _of_another_unit(symptom, one)]
    ranked = {one.fault: one for one in sorted(likely, key=lambda one: one.host == symptom.host)}
    return next((ranked[name] for name in fault.follows if name in ranked), None)


def _of_another_unit(symptom: Finding, cause: Finding) -> bool:
    """Return whether ``cause`` is one unit's own, and ``symptom`` another unit's process."""
    units = [one.where.partition("@")[0] for one in (symptom, cause)]
    about_units = (
        bool(symptom.host) and BY_NAME[symptom.fault].area == "processes" and cause.fault in _OF_A_UNIT
    )
    return about_units and units[0] != units[1]
