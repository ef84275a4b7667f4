"""The errors of a stack file or a catalogue: every problem at once, each with its line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: its place (``line`` counts from 1), the setting, and a message with cause and remedy."""

    file: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


class StackFileError(Exception):
    """Every problem of the files read, in file order. Raised before anything is changed."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (str(p.file), p.line, p.field))
        count = len(self.problems)
        title = f"{count} problem{'s' if count != 1 else ''} found, nothing was changed:"
        super().__init__("\n".join([title, *(f"  {problem}" for problem in self.problems)]))
