"""Everything that can go wrong, as one tree.

::

    LoaderError
    ├── PlanError         the wanted set itself is refused (name, format, missing checksum)
    ├── SourceError       the source refuses or lacks it; trying again will not help
    │   └── RedirectError the source sends us where we do not go
    ├── TransientError    worth another try (cut, stall, 429, 5xx)
    ├── IntegrityError    the bytes are not the wanted bytes
    ├── StoreError        the store cannot take it (space, rights, a foreign object in the way)
    └── Stopped           the run was told to stop, or its deadline passed

A message names the remedy and never holds a token, a query string or a user name.
"""


class LoaderError(Exception):
    """Base of every refusal of this package; the command line turns it into exit code 1."""


class PlanError(LoaderError):
    """The wanted set is refused before any byte moves."""


class SourceError(LoaderError):
    """The source will not give the file, however often it is asked."""


class RedirectError(SourceError):
    """A redirect leads where the policy does not go."""


class RangesError(LoaderError):
    """The source does not honour ``Range`` for this file, so it is taken whole."""


class ChangedError(LoaderError):
    """The file changed at the source since its first byte was taken."""


class TransientError(LoaderError):
    """Worth another try; ``retry_after`` is the server's wish in seconds, if it had one."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IntegrityError(LoaderError):
    """The bytes are not the wanted bytes."""


class StoreError(LoaderError):
    """The store cannot take the model; ``full`` says that space (or inodes) ran out."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class Stopped(LoaderError):  # noqa: N818  -- an order to stop, not a fault
    """The run was told to stop or its deadline passed; what was fetched stays for the next run."""
