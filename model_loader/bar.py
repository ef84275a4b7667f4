"""A progress bar for terminals; a module of its own, as importing rich is slow."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Bar:
    """A progress bar; use it as a context manager."""

    def __init__(self) -> None:
        shown = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        columns = (*shown, TransferSpeedColumn(), TimeRemainingColumn())
        self._console = Console(stderr=True)
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._task = self._progress.add_task("fetching", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def expect(self, total: int) -> None:
        """Set the bar's end."""
        self._progress.update(self._task, total=total)

    def add(self, count: int) -> None:
        """Move the bar."""
        self._progress.advance(self._task, count)

    def event(self, kind: str, /, **fields: Any) -> None:  # noqa: ANN401
        """Print one event above the bar."""
        text = " ".join(f"{name}={value}" for name, value in fields.items())
        self._console.print(f"{kind}: {text}", markup=False, highlight=False)
