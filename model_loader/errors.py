"""The errors of this package, as one tree.

::

    LoaderError
    ├── PlanError         the plan itself is refused (name, format, missing checksum)
    ├── ModelError        a model's own files are damaged, or are of a kind that cannot be served
    ├── SourceError       the source refuses or lacks the file; another try cannot succeed
    │   ├── RedirectError a redirect leads to an address that the policy forbids
    │   └── NoSourceError every source of a model failed
    ├── RangesError       the source does not support ``Range`` for this file
    ├── ChangedError      the file changed at the source during the download
    ├── TransientError    another try may succeed (connection cut, stall, 429, 5xx)
    ├── IntegrityError    the content differs from the expected content
    ├── StoreError        the store cannot be written (space, permissions, a path that is in use)
    └── Stopped           the run was stopped, or its deadline passed

A message names the remedy; it never contains a token, a query string or a user name.
"""


class LoaderError(Exception):
    """Base of the errors of this package; the command line turns one into exit code 1."""


class PlanError(LoaderError):
    """The plan is refused before any byte is transferred."""


class ModelError(LoaderError):
    """A model's own files are damaged, or describe what no runtime here serves."""


class SourceError(LoaderError):
    """The source does not provide the file, and another try cannot succeed.

    ``status`` is the HTTP status that said so, or None.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NoSourceError(SourceError):
    """Every source of a model failed; the message has each one's reason."""


class RedirectError(SourceError):
    """A redirect leads to an address that the policy forbids."""


class RangesError(LoaderError):
    """The source does not support ``Range`` for this file; the whole file must be downloaded."""


class ChangedError(LoaderError):
    """The file changed at the source since its first byte was downloaded."""


class TransientError(LoaderError):
    """Another try may succeed; ``retry_after`` is the wait in seconds that the server asked for, or None."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IntegrityError(LoaderError):
    """The content differs from the expected content."""


class StoreError(LoaderError):
    """The store cannot be written; ``full`` means that no space, inodes or quota are left."""

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class Stopped(LoaderError):  # noqa: N818  -- a request to stop, not a fault
    """The run was stopped or its deadline passed; downloaded bytes are kept for the next run."""
