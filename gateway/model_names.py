"""Which model names are answered, and under which name."""

from collections.abc import Sequence

from gateway.errors import ApiError

# FauxPilot answers every request as "codegen"; its clients see no other name.
LEGACY_NAME = "codegen"
_LEGACY = frozenset({"codegen", "fastertransformer", "py-model", "gitlab", "copilot-codex", "ensemble"})


class ModelNames:
    """The served model and its aliases.

    Editors send odd names: nothing, null, an empty string, ``gitlab``.
    """

    def __init__(self, served: str, aliases: Sequence[str], *, any_name: bool) -> None:
        self.served = served
        self._known = {served, *aliases}
        self._any_name = any_name

    def knows(self, name: str) -> bool:
        """Say whether a name stands for the served model."""
        return name in self._known

    def resolve(self, name: str | None) -> str:
        """Return the name to answer with; raises 404 ``model_not_found`` for a name nobody configured."""
        if not name or name in _LEGACY:
            return LEGACY_NAME
        if name in self._known or self._any_name:
            return name
        raise ApiError(
            404,
            f"The model {name[:64]!r} does not exist. "
            f"Use {self.served!r}, or add the name to ASSIST_MODEL_ALIASES.",
            code="model_not_found",
            param="model",
        )
