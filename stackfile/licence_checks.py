"""The licence gate: a model that is not free for commercial use needs the acceptance of its licence."""

from collections.abc import Iterator

from stackfile.catalogue import ModelFacts, models
from stackfile.document import Conflict
from stackfile.stack import Stack


def refusal(model: str, facts: ModelFacts, accepted: str | None, setting: str) -> str | None:
    """Return why ``model`` must not be used with the licence that was ``accepted``, and the remedy, or None.

    ``setting`` is what precedes the id where the user accepts a licence, such as ``--accept-licence ``.
    """
    if accepted == facts.licence or (accepted is None and facts.commercial):
        return None
    if accepted is not None:
        remedy = (
            "leave it out" if facts.commercial else f"read that licence, then give {setting}{facts.licence}"
        )
        return f"{accepted!r} is not the licence of {model}, which is {facts.licence}; {remedy}"
    others = [name for name, each in models().items() if each.commercial and _alike(each, facts)]
    alternatives = f", such as {', '.join(others)}" if others else ""
    return (
        f"{model} is under {facts.licence}, which does not allow commercial use; if your use is allowed, give"
        f" {setting}{facts.licence}, else choose a model that is free for commercial use{alternatives}"
    )


def conflicts(stack: Stack, model: ModelFacts) -> Iterator[Conflict]:
    """Yield the conflict between the model's licence and the stack's ``accept_licence``, if any."""
    if message := refusal(stack.model, model, stack.accept_licence, "accept_licence: "):
        yield ("model",) if stack.accept_licence is None else ("accept_licence",), message


def _alike(one: ModelFacts, other: ModelFacts) -> bool:
    """Return whether two models differ in little but their size, and in that by a factor of 3 at most."""
    if (one.architecture, one.format, *one.memory_gib) != (
        other.architecture,
        other.format,
        *other.memory_gib,
    ):
        return False
    return 1 / 3 <= one.parameters / other.parameters <= 3
