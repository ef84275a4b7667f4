"""YAML files read with the line of every value, so that an error can point at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stackfile.errors import Problem, StackFileError

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: plain ``data`` and the line (from 1) of each location in it."""

    file: Path
    data: dict[str, Any]
    lines: dict[Location, int]

    def problem(self, location: Location, message: str) -> Problem:
        """Return a problem at ``location``, or at the nearest parent that the file spells out."""
        known = location
        while known and known not in self.lines:
            known = known[:-1]
        field = ".".join(str(part) for part in location) or "(file)"
        return Problem(self.file, self.lines.get(known, 1), field, message)


def read(file: Path) -> Document:
    """Parse ``file`` safely. Raises StackFileError for unreadable files, bad YAML and keys given twice."""
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
    repeated: list[Problem] = []
    _walk(node, (), lines, repeated, file)
    if repeated:
        raise StackFileError(repeated)
    data = yaml.SafeLoader("").construct_document(node)
    return Document(file, data, lines)


def _missing(file: Path) -> str:
    others = sorted(path.stem for path in file.parent.glob("*.yaml")) if file.parent.is_dir() else []
    return f"does not exist. Stacks here: {', '.join(others)}." if others else "does not exist."


def _walk(
    node: yaml.Node, at: Location, lines: dict[Location, int], repeated: list[Problem], file: Path
) -> None:
    """Record the line of every value; YAML itself lets a key stand twice and silently keeps the last."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*at, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                repeated.append(Problem(file, line, str(key.value), "stands twice; keep one of them"))
            lines[inner] = line
            _walk(value, inner, lines, repeated, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _walk(value, (*at, index), lines, repeated, file)
