"""Groups of commands, each imported when it is used (Click, "Lazily Loading Subcommands")."""

from importlib import import_module
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

# The module of each group, and the name of its Typer application there.
GROUPS = {
    "bundle": ("assist.bundle.cli", "bundle"),
    "keys": ("assist.keys_cli", "keys"),
    "models": ("assist.models_cli", "models"),
    "gke": ("assist.gke.cli", "gke"),
    "monitoring": ("assist.monitoring_cli", "monitoring"),
}


class LazyGroup(TyperGroup):
    """The commands of the application itself, and those of ``GROUPS`` once they are used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  -- Typer keeps its copy of Click private
        """Return every name."""
        return [*super().list_commands(ctx), *(name for name in GROUPS if name not in self.commands)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401  -- as above
        """Return the command of a name, importing its group now where the name is one of ``GROUPS``."""
        if cmd_name in GROUPS and cmd_name not in self.commands:
            module, attribute = GROUPS[cmd_name]
            command = get_command(getattr(import_module(module), attribute))
            command.name = cmd_name
            self.commands[cmd_name] = command
        return super().get_command(ctx, cmd_name)
