"""Model names: which ones stand for the served model, and which name a response has."""

from collections.abc import Sequence

from gateway.errors import ApiError

# FauxPilot answers every request as "codegen", whatever it serves; its clients see no other name.
LEGACY_NAME = "codegen"
_LEGACY = ("codegen", "fastertransformer", "py-model", "gitlab", "copilot-codex", "ensemble")
# What editors send as the model name of "whatever you serve": FauxPilot's and GitLab's names, and OpenAI's
# last two completion models, which client libraries use in their own examples.
COMMON_ALIASES = (*_LEGACY, "gpt-3.5-turbo-instruct", "davinci-002")


class ModelNames:
    """The served model and its aliases; with ``any_name`` every other name stands for it too.

    Editors send odd names: nothing, null, an empty string, ``gitlab``.
    """

    def __init__(self, served: str, aliases: Sequence[str], *, any_name: bool) -> None:
        self.served = served
        self._names = {served, *aliases}
        self._any_name = any_name

    def includes(self, name: str) -> bool:
        """Return whether a name is the served model's or one of its aliases."""
        return name in self._names

    def resolve_for_fauxpilot(self, name: str | None) -> str:
        """Return the name as ``resolve``, but ``codegen`` for FauxPilot's names of models and for none."""
        return LEGACY_NAME if not name or name in _LEGACY else self.resolve(name)

    def resolve(self, name: str | None) -> str:
        """Return the response's model name: the caller's own, or the served model's where he gave none.

        Raises 404 ``model_not_found`` for an unknown name.
        """
        if not name:
            return self.served
        if name in _LEGACY or name in self._names or self._any_name:
            return name
        raise ApiError(
            404,
            f"The model {name[:64]!r} does not exist. "
            f"Use {self.served!r}, or add the name to ASSIST_MODEL_ALIASES.",
            code="model_not_found",
            param="model",
        )
