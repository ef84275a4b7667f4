"""GitLab's CodeGen gateway of 2023: its languages by file name, and its rule for incomplete lines."""

from pathlib import PurePosixPath

_EXTENSIONS: dict[str, tuple[str, ...]] = {
    "c": ("c", "h"),
    "cpp": ("cpp", "hpp", "c++", "h++", "cc", "hh", "C", "H"),
    "csharp": ("cs",),
    "go": ("go",),
    "java": ("java",),
    "js": ("js",),
    "php": ("php", "php3", "php4", "php5", "phps", "phpt"),
    "python": ("py",),
    "ruby": ("rb",),
    "rust": ("rs",),
    "scala": ("scala",),
    "ts": ("ts", "tsx"),
    "kotlin": ("kts", "kt"),
}
_BY_EXTENSION = {extension: language for language, names in _EXTENSIONS.items() for extension in names}


def language_of(file_name: str) -> str | None:
    """Return the language of a file's extension, ``None`` when unknown; ``.C`` is C++, ``.c`` is C."""
    return _BY_EXTENSION.get(PurePosixPath(file_name.replace("\\", "/")).suffix.removeprefix("."))


def without_incomplete_line(text: str) -> str:
    """Return the text up to its last line end; a text without one stays unchanged."""
    end = text.rfind("\n")
    return text if end < 0 else text[: end + 1]
