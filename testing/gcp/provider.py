"""What Google's provider does with one resource, on plain values: check, compare, make, read, change, remove."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from testing.gcp import faults, schema
from testing.gcp.cloud import Body, Cloud, GoogleError
from testing.gcp.diff import Difference, difference
from testing.gcp.faults import Effect, HeldTooLongError, poll
from testing.gcp.kinds import KINDS, LOOKUPS
from testing.gcp.kinds.base import Done, Inputs, Kind
from testing.gcp.kinds.places import Where
from testing.gcp.schema import Finding
from testing.gcp.values import UNKNOWN, known

# Google's provider waits this long where the program sets no time.
PATIENCE_S = 1800.0
_SUFFIX = 7


class ProviderError(Exception):
    """What the provider itself refuses, or a call that did not end well."""


class HalfDoneError(Exception):
    """An operation failed after Google had begun the resource: Pulumi's state must keep it."""

    def __init__(self, identity: str, outputs: Body, reason: str) -> None:
        super().__init__(reason)
        self.identity, self.outputs, self.reason = identity, outputs, reason


@dataclass(frozen=True)
class Call:
    """One call of the engine's: the type's token, the name in the program, how long it may take."""

    kind: str
    name: str
    patience_s: float = PATIENCE_S


class Provider:
    """The provider on one cloud, configured for one project."""

    def __init__(self, cloud: Cloud, where: Where) -> None:
        self.cloud, self.where = cloud, where

    def kind(self, token: str) -> Kind:
        """Return a type. Raises ProviderError for one that the double does not know."""
        if token not in KINDS:
            raise ProviderError(
                f"the test double of Google does not know {token}; add it to testing/gcp/kinds (it knows {', '.join(KINDS)})"
            )
        return KINDS[token]

    def check(self, call: Call, old: Inputs, new: Inputs, seed: bytes = b"") -> tuple[Inputs, list[Finding]]:
        """Return the inputs with their defaults, and what is wrong with them. Raises ProviderError."""
        kind = self.kind(call.kind)
        findings = schema.findings(kind.inputs(), new)
        if not findings:
            findings = list(kind.check(known(new)))
        if kind.autoname is None or "name" in new or "namePrefix" in new:
            return new | {"__defaults": []}, findings
        if "name" in old.get("__defaults", ()):
            return new | {"name": old["name"], "__defaults": ["name"]}, findings
        name = f"{call.name}-{_suffix(seed)}"
        if len(name) > kind.autoname:
            most = kind.autoname - _SUFFIX - 1
            findings.append(
                Finding(
                    "name", f"{call.name} has more than {most} characters, which leaves no room for a suffix"
                )
            )
        return new | {"name": name, "__defaults": ["name"]}, findings

    def diff(
        self, call: Call, *, before: Inputs, state: Body, asked: Inputs, ignored: list[str]
    ) -> Difference:
        """Return what must change. Raises ProviderError."""
        return difference(
            self.kind(call.kind), before=before, state=state, asked=asked, where=self.where, ignored=ignored
        )

    def plan(self, call: Call, inputs: Inputs) -> Body:
        """Return the outputs of a resource that is not made yet: what is known, and what is not."""
        kind = self.kind(call.kind)
        planned: Body = {
            name: UNKNOWN for name in kind.outputs().properties if name not in kind.inputs().properties
        }
        planned |= {key: value for key, value in inputs.items() if not key.startswith("__")}
        if "project" in kind.outputs().properties:
            planned.setdefault("project", self.where.project)
        for path in kind.computed:
            _set_unknown(planned, path.split("."))
        return planned

    def create(self, call: Call, inputs: Inputs) -> tuple[str, Body]:
        """Make a resource; return its id and its outputs. Raises GoogleError, ProviderError, HalfDoneError."""
        kind = self.kind(call.kind)
        effect = self._before("Create", call)
        identity, operation = self._call(
            "Create", call, kind, lambda: kind.perform_create(self.cloud, inputs, self.where, effect)
        )
        failure = self._wait(operation, call)
        if failure is None:
            kind.finish(self.cloud, identity, inputs)
        self._after(effect, call)
        outputs = self._outputs(kind, identity, inputs)
        if failure is not None:
            raise HalfDoneError(identity, outputs, failure)
        return identity, outputs

    def read(self, call: Call, identity: str, last: Body, inputs: Inputs) -> tuple[Body, Inputs] | None:
        """Return the outputs and the inputs of what Google has, or None. Raises ProviderError, GoogleError."""
        kind = self.kind(call.kind)
        self._before("Read", call)
        with self.cloud.transaction() as state:
            found = kind.find(state, identity) is not None
        self.cloud.note("Read", call.kind, call.name, 200 if found else 404)
        if not found:
            return None
        outputs = self._outputs(kind, identity, {key: last[key] for key in kind.local if key in last})
        return outputs, _asked(kind, inputs, outputs)

    def update(self, call: Call, identity: str, last: Body, inputs: Inputs) -> Body:
        """Change a resource in place; return its outputs. Raises GoogleError, ProviderError, HalfDoneError."""
        kind = self.kind(call.kind)
        effect = self._before("Update", call)
        _, operation = self._call(
            "Update",
            call,
            kind,
            lambda: kind.perform_update(self.cloud, identity, inputs, self.where, effect),
        )
        failure = self._wait(operation, call)
        self._after(effect, call)
        if failure is not None:
            raise HalfDoneError(identity, last, failure)
        return self._outputs(kind, identity, inputs)

    def delete(self, call: Call, identity: str, last: Body) -> None:
        """Remove a resource. Raises GoogleError, ProviderError where it is protected."""
        kind = self.kind(call.kind)
        policy = last.get("deletionPolicy", "DELETE")
        if policy == "ABANDON":
            return
        if policy == "PREVENT" or last.get("deletionProtection", kind.local.get("deletionProtection")):
            what = "deletionPolicy is PREVENT" if policy == "PREVENT" else "deletionProtection is true"
            raise ProviderError(
                f"cannot destroy {kind.title} {call.name}: {what}; change it and update before"
            )
        effect = self._before("Delete", call)
        _, operation = self._call(
            "Delete", call, kind, lambda: kind.perform_delete(self.cloud, identity, last, effect)
        )
        if failure := self._wait(operation, call):
            raise ProviderError(failure)
        self._after(effect, call)

    def invoke(self, token: str, inputs: Inputs) -> dict[str, Any]:
        """Return a lookup's result. Raises ProviderError, GoogleError."""
        if token not in LOOKUPS:
            raise ProviderError(
                f"the test double of Google does not know the lookup {token}; add it to testing/gcp/kinds/lookups.py"
            )
        with self.cloud.transaction() as state:
            found = LOOKUPS[token](state, inputs, self.where)
        self.cloud.note("Invoke", token, "")
        return found

    def _before(self, method: str, call: Call) -> Effect:
        effect = faults.effect(self.cloud, method, call.kind, call.name)
        effect.leave("before")
        self._held(effect, "call", call)
        if effect.refuse is not None:
            self.cloud.note(method, call.kind, call.name, effect.refuse.code, effect.refuse.reason)
            raise effect.refuse
        return effect

    def _after(self, effect: Effect, call: Call) -> None:
        effect.leave("after")
        self._held(effect, "answer", call)

    def _held(self, effect: Effect, point: str, call: Call) -> None:
        try:
            effect.wait(self.cloud, point, call.patience_s)
        except HeldTooLongError as late:
            raise ProviderError(str(late)) from None

    def _call(self, method: str, call: Call, kind: Kind, perform: Any) -> Done:
        """Call Google, and again for as long as its answer says that it is only busy."""
        done: list[Done] = []

        def accepted() -> bool:
            try:
                done.append(perform())
            except GoogleError as refused:
                self.cloud.note(method, call.kind, call.name, refused.code, refused.reason)
                if not kind.retries(refused):
                    raise
                return False
            self.cloud.note(method, call.kind, call.name)
            return True

        try:
            poll(accepted, call.patience_s, f"{kind.title} {call.name}")
        except HeldTooLongError as late:
            raise ProviderError(str(late)) from None
        return done[0]

    def _wait(self, operation: str | None, call: Call) -> str | None:
        """Wait for the end of an operation; return its error, or None. Raises ProviderError after the time limit."""
        if operation is None:
            return None

        def ended() -> bool:
            with self.cloud.transaction() as state:
                return state.ended(operation)[0]

        try:
            poll(ended, call.patience_s, f"{operation} on {call.name}")
        except HeldTooLongError as late:
            return str(late)
        with self.cloud.transaction() as state:
            return state.ended(operation)[1]

    def _outputs(self, kind: Kind, identity: str, given: Inputs) -> Body:
        with self.cloud.transaction() as state:
            body = kind.find(state, identity)
            seen = kind.view(state, body) if body is not None else {}
        ours = {key: given.get(key, default) for key, default in kind.local.items()}
        return seen | {key: value for key, value in ours.items() if value is not None}


def _suffix(seed: bytes) -> str:
    return hashlib.sha256(seed or os.urandom(16)).hexdigest()[:_SUFFIX]


def _set_unknown(planned: Any, path: list[str]) -> None:
    head, *rest = path
    name = head.removesuffix("[]")
    if not isinstance(planned, dict):
        return
    if not rest:
        planned.setdefault(name, UNKNOWN)
    elif isinstance(planned.get(name), dict):
        planned[name] = dict(planned[name])
        _set_unknown(planned[name], rest)
    elif isinstance(planned.get(name), list):
        planned[name] = [dict(one) if isinstance(one, dict) else one for one in planned[name]]
        for one in planned[name]:
            _set_unknown(one, rest)


def _asked(kind: Kind, inputs: Inputs, outputs: Body) -> Inputs:
    """Return the inputs that would give these outputs, in the shape in which they were given."""
    if not inputs:
        required = {name for name, one in kind.inputs().properties.items() if one.required}
        named = required | {"name", "location", "region", "project"}
        return {name: outputs[name] for name in sorted(named & set(outputs) & set(kind.inputs().properties))}
    found = {key: value for key, value in inputs.items() if key.startswith("__")}
    for key, value in inputs.items():
        if key in kind.local:
            found[key] = value
        elif key in outputs and not key.startswith("__"):
            found[key] = _like(kind, key, value, outputs[key])
    return found


def _like(kind: Kind, path: str, given: Any, now: Any) -> Any:
    if isinstance(given, dict) and isinstance(now, dict):
        return {
            key: _like(kind, f"{path}.{key}", value, now[key]) for key, value in given.items() if key in now
        }
    if isinstance(given, list) and isinstance(now, list) and len(given) == len(now):
        return [_like(kind, path, value, other) for value, other in zip(given, now, strict=True)]
    return given if kind.same(path, given, now) else now
