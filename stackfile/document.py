"""YAML files read with the line of every value, so that an error can point at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stackfile.errors import Problem, StackFileError

Location = tuple[str | int, ...]
# A setting that conflicts with another one, and the message: cause and remedy.
Conflict = tuple[Location, str]


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: plain ``data`` and the line (from 1) of each location in it."""

    file: Path
    data: dict[str, Any]
    lines: dict[Location, int]

    def line(self, location: Location) -> int:
        """Return the line of ``location``, or of its nearest parent in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def problem(self, location: Location, message: str) -> Problem:
        """Return a problem at ``location``, or at its nearest parent in the file."""
        return Problem(self.file, self.line(location), dotted(location) or "(file)", message)


def dotted(location: Location) -> str:
    """Return a location as a user writes it, such as ``gateway.port``."""
    return ".".join(str(part) for part in location)


def read(file: Path) -> Document:
    """Parse ``file`` safely. Raises StackFileError for unreadable files, bad YAML and duplicate keys."""
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise StackFileError([Problem(file, 1, "(file)", _missing(file))]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StackFileError([Problem(file, 1, "(file)", f"cannot be read: {error}")]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StackFileError(
            [Problem(file, line, "(file)", f"is not valid YAML: {error.problem}")]
        ) from error
    if not isinstance(node, yaml.MappingNode):
        raise StackFileError([Problem(file, 1, "(file)", "must be a YAML mapping of settings")])
    lines: dict[Location, int] = {(): 1}
    duplicates: list[Problem] = []
    _walk(node, (), lines, duplicates, file)
    if duplicates:
        raise StackFileError(duplicates)
    data = yaml.SafeLoader("").construct_document(node)
    return Document(file, data, lines)


def _missing(file: Path) -> str:
    folder = file.parent
    stacks = sorted(
        path.stem
        for path in (folder.glob("*.yaml") if folder.is_dir() else ())
        if not path.name.startswith("Pulumi.")
    )
    return f"does not exist. Stacks here: {', '.join(stacks)}." if stacks else "does not exist."


def _walk(
    node: yaml.Node, at: Location, lines: dict[Location, int], duplicates: list[Problem], file: Path
) -> None:
    """Record the line of every value; YAML itself accepts duplicate keys and silently keeps the last."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*at, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                duplicates.append(Problem(file, line, str(key.value), "duplicate key; remove one"))
            lines[inner] = line
            _walk(value, inner, lines, duplicates, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _walk(value, (*at, index), lines, duplicates, file)
