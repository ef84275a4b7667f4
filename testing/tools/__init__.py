"""The programs that tests need beyond Python packages: found on PATH, then in the user's cache.

``pins.toml`` says what there is, ``make test-tools`` (``python3 -m testing.tools``) gets what is missing. Standard
library only: it has to run before there is any virtual environment.
"""

from testing.tools.find import activate, environment, file, missing, search_path

__all__ = ["activate", "environment", "file", "missing", "search_path"]
