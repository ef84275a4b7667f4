"""Version numbers, compared part by part."""


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version such as ``525.60.13``; other parts are skipped."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
