"""What is wrong with a stack file or a catalogue, said once and completely."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where it stands (``line`` counts from 1), what it is, why it matters and how to mend it."""

    file: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.message}"


class StackFileError(Exception):
    """Every problem found, in file order; nothing was changed."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (str(p.file), p.line, p.field))
        count = len(self.problems)
        title = f"{count} problem{'s' if count != 1 else ''} found, nothing was changed:"
        super().__init__("\n".join([title, *(f"  {problem}" for problem in self.problems)]))
