"""What every resource type of the double has: its inputs' rules, its place in the cloud, its life there."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

from testing.gcp import sdk
from testing.gcp.cloud import OWN, STATUS, Body, Cloud, GoogleError, Operation, State
from testing.gcp.faults import Effect
from testing.gcp.kinds.places import Where, same
from testing.gcp.schema import Finding

Inputs = dict[str, Any]
# A resource's id, and the name of the operation that is under way on it.
Done = tuple[str, str | None]
# RFC 1035 labels, as Compute Engine wants names.
RFC1035 = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
_LABEL_KEY, _LABEL_VALUE = re.compile(r"[a-z][-_a-z0-9]{0,62}"), re.compile(r"[-_a-z0-9]{0,63}")
# What Google's provider adds to the labels of everything that it makes.
ATTRIBUTION = {"goog-pulumi-provisioned": "true"}


@dataclass(frozen=True)
class Rules:
    """Rules about single values, by path: patterns, allowed values, least values; and what cannot both be given."""

    patterns: Mapping[str, str] = field(default_factory=dict)
    allowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)
    conflicts: tuple[tuple[str, str], ...] = ()

    def findings(self, inputs: Inputs) -> Iterator[Finding]:
        """Yield what breaks a rule."""
        tests: list[tuple[str, Callable[[Any], bool], str]] = [
            *((path, _matches(pattern), f"a match of {pattern}") for path, pattern in self.patterns.items()),
            *(
                (path, allowed.__contains__, f"one of {', '.join(allowed)}")
                for path, allowed in self.allowed.items()
            ),
            *((path, _at_least(least), f"at least {least}") for path, least in self.least.items()),
        ]
        for path, good, wanted in tests:
            for at, value in each(inputs, path):
                if not good(value):
                    yield Finding(at, f"expected {wanted}, not {value!r}")
        for one, other in self.conflicts:
            if get(inputs, one) is not None and get(inputs, other) is not None:
                yield Finding(one, f"{one} conflicts with {other}")


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: re.fullmatch(pattern, str(value)) is not None


def _at_least(least: int) -> Callable[[Any], bool]:
    return lambda value: bool(value >= least)


class Kind:
    """A resource type. Subclasses say what is special about theirs; the rest is the same for all."""

    token: ClassVar[str]
    # Properties (``a.b``, lists without their index) whose change makes a new resource.
    replaces: ClassVar[frozenset[str]] = frozenset()
    # Lists whose order says nothing.
    sets: ClassVar[frozenset[str]] = frozenset()
    # What names another resource, by its name or its address.
    links: ClassVar[frozenset[str]] = frozenset()
    # Nested properties that Google fills in, unknown in a preview.
    computed: ClassVar[tuple[str, ...]] = ()
    # Properties that the provider keeps to itself, and what they are where nothing is given.
    local: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    # What a secret of Google's is in the outputs.
    secrets: ClassVar[tuple[str, ...]] = ()
    # How long a name that Pulumi makes up may be; None: the type has no such name.
    autoname: ClassVar[int | None] = None
    # The API that must be enabled.
    api: ClassVar[str | None] = None
    # The property that holds labels.
    labels: ClassVar[str | None] = None
    # What Google's provider refuses before any call.
    rules: ClassVar[Rules] = Rules()
    # How long an operation takes that no fault makes longer.
    seconds: ClassVar[float] = 0.0

    @property
    def title(self) -> str:
        """Return the name of the type's class, such as ``NodePool``."""
        return self.token.rpartition(":")[2]

    @property
    def file(self) -> str:
        folder = self.token.split(":")[1].partition("/")[0]
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", self.title).lower()
        return f"{folder}/{snake}"

    def inputs(self) -> sdk.Shape:
        """Return the SDK's input type."""
        return sdk.shape(self.file, f"{self.title}Args")

    def outputs(self) -> sdk.Shape:
        """Return the SDK's type of all that a resource has, inputs included."""
        return sdk.shape(self.file, f"_{self.title}State")

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        """Yield what Google's provider refuses before it makes a call. Unknown values are absent."""
        yield from self.rules.findings(inputs)

    def same(self, path: str, one: Any, other: Any) -> bool:
        """Return whether two values of a property (its path without indices) mean the same."""
        if (
            path in self.links
            and isinstance(one, str)
            and isinstance(other, str)
            and ("/" in one) != ("/" in other)
        ):
            return one.rpartition("/")[2] == other.rpartition("/")[2]
        return same(one, other)

    def forces(self, path: str, old: Any, new: Any) -> bool:
        """Return whether the change of a leaf (its path without indices) makes a new resource."""
        return any(path == one or path.startswith(f"{one}.") for one in self.replaces)

    def identity(self, inputs: Inputs, where: Where) -> str:
        """Return the id that Google's provider gives the resource."""
        raise NotImplementedError

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        """Raise GoogleError where Google would not do it; ``old``: what is there, for an update."""

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        """Return what Google adds to the inputs, and what it writes in another way."""
        return {}

    def view(self, state: State, body: Body) -> Body:
        """Return the properties of what is in the cloud as Google reports them."""
        return {key: value for key, value in body.items() if not key.startswith(OWN)}

    def unit(self, identity: str) -> str:
        """Return what takes one operation at a time."""
        return identity

    def find(self, state: State, identity: str) -> Body | None:
        """Return what the cloud has, or None."""
        return state.find(self.token, identity)

    def perform_create(self, cloud: Cloud, inputs: Inputs, where: Where, effect: Effect) -> Done:
        """Call Google to make the resource; return its id and the operation to wait for. Raises GoogleError."""
        with cloud.transaction() as state:
            identity = self.create(state, inputs, where)
            return identity, self.start(state, "create", identity, effect)

    def perform_update(
        self, cloud: Cloud, identity: str, inputs: Inputs, where: Where, effect: Effect
    ) -> Done:
        """Call Google to change the resource; see ``perform_create``."""
        with cloud.transaction() as state:
            self.update(state, identity, inputs, where)
            return identity, self.start(state, "update", identity, effect)

    def perform_delete(self, cloud: Cloud, identity: str, last: Body, effect: Effect) -> Done:
        """Call Google to remove the resource; see ``perform_create``. What does not exist is removed already."""
        with cloud.transaction() as state:
            if self.find(state, identity) is None:
                return identity, None
            self.delete(state, identity, last)
            operation = self.start(state, "delete", identity, effect)
            if operation is None:
                state.remove(self.token, identity)
            return identity, operation

    def start(self, state: State, verb: str, identity: str, effect: Effect) -> str | None:
        """Begin the operation of a call where it takes time; return its name, or None for what is done at once."""
        seconds = self.seconds if effect.seconds is None else effect.seconds
        gate = effect.gate if effect.at("operation") else None
        if not seconds and not gate and not effect.fail:
            return None
        body = state.find(self.token, identity)
        if body is not None:
            body[STATUS] = {"create": "PROVISIONING", "update": "RECONCILING", "delete": "STOPPING"}[verb]
        return state.begin(
            Operation(verb, self.token, identity, self.unit(identity), seconds, gate, effect.fail)
        )

    def finish(self, cloud: Cloud, identity: str, inputs: Inputs) -> None:
        """Do what Google's provider does after a creation has ended well."""

    def retries(self, refused: GoogleError) -> bool:
        """Return whether Google's provider tries again by itself after this answer."""
        return False

    def create(self, state: State, inputs: Inputs, where: Where) -> str:
        """Make the resource; return its id. Raises GoogleError."""
        self.needs_api(state)
        identity = self.identity(inputs, where)
        if state.find(self.token, identity) is not None:
            raise exists(identity)
        self.admit(state, inputs, where, None)
        state.put(self.token, identity, self._whole(state, inputs, where, None))
        return identity

    def update(self, state: State, identity: str, inputs: Inputs, where: Where) -> None:
        """Change the resource in place. Raises GoogleError."""
        old = state.find(self.token, identity)
        if old is None:
            raise missing(identity)
        self.admit(state, inputs, where, old)
        state.put(self.token, identity, self._whole(state, inputs, where, old))

    def delete(self, state: State, identity: str, last: Body) -> None:
        """Prepare the removal of the resource; ``last``: its outputs in Pulumi's state. Raises GoogleError."""
        if users := self.users(state, identity):
            message = f"The resource '{identity}' is already being used by '{users[0]}'"
            raise GoogleError(400, message, "resourceInUseByAnotherResource")

    def users(self, state: State, identity: str) -> list[str]:
        """Return the ids of what could not go on without the resource."""
        return []

    def needs_api(self, state: State) -> None:
        """Raise GoogleError where the type's API is not enabled."""
        if self.api and self.api not in state.document["services"]:
            raise GoogleError(
                403,
                f"{self.api} has not been used in this project before or it is disabled",
                "accessNotConfigured",
            )

    def _whole(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        given = {
            key: value for key, value in inputs.items() if key not in self.local and not key.startswith("__")
        }
        own = {key: value for key, value in (old or {}).items() if key.startswith(OWN)}
        return own | given | self._labelled(inputs, where) | self.body(state, inputs, where, old)

    def _labelled(self, inputs: Inputs, where: Where) -> Body:
        if self.labels is None:
            return {}
        given = inputs.get(self.labels) or {}
        ours = where.labels | given
        for key, value in ours.items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
                raise GoogleError(
                    400,
                    f"Invalid label {key}={value}: lowercase letters, digits, - and _, at most 63",
                    "invalid",
                )
        return {self.labels: given, "pulumiLabels": ours, "effectiveLabels": ours | ATTRIBUTION}


def get(inputs: Any, path: str, default: Any = None) -> Any:
    """Return the value at ``a.b.c``, or the default."""
    for part in path.split("."):
        if not isinstance(inputs, dict) or part not in inputs:
            return default
        inputs = inputs[part]
    return inputs


def each(inputs: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values at a path such as ``nodeConfig.taints[].effect``, each with its own path."""
    head, _, rest = path.partition(".")
    name, is_list = head.removesuffix("[]"), head.endswith("[]")
    if not isinstance(inputs, dict) or name not in inputs:
        return
    value = inputs[name]
    found = [(f"{name}[{index}]", item) for index, item in enumerate(value)] if is_list else [(name, value)]
    for at, item in found:
        if not rest:
            yield at, item
        else:
            yield from ((f"{at}.{inner}", leaf) for inner, leaf in each(item, rest))


def exists(identity: str) -> GoogleError:
    """Return Google's answer to a creation of what exists."""
    return GoogleError(409, f"The resource '{identity}' already exists", "alreadyExists")


def missing(identity: str) -> GoogleError:
    """Return Google's answer about what does not exist."""
    return GoogleError(404, f"The resource '{identity}' was not found", "notFound")
