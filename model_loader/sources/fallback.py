"""Tries the sources of a model in their order until one has all of it."""

import dataclasses
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from model_loader.errors import (
    ChangedError,
    IntegrityError,
    LoaderError,
    NoSourceError,
    RangesError,
    SourceError,
    TransientError,
)
from model_loader.progress import Reporter
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources.protocols import Source

T = TypeVar("T")

# How the message of NoSourceError begins.
NO_SOURCE = "no source has the model"
# Tries without progress of a source that another one follows: the next one is the better retry.
HASTY_TRIES = 2
# Seconds of a connection attempt to a source that another one follows.
HASTY_CONNECT_S = 4.0


def first_that_works(
    sources: Sequence[Source],
    retry: RetryPolicy,
    reporter: Reporter,
    path: str,
    work: Callable[[Source, RetryPolicy], T],
) -> T:
    """Return ``work(source, retry policy)`` of the first source that does not fail; report each that does.

    A source that another one follows is first asked for one byte of ``path``: one connection, not all of a
    download's, finds out that it cannot be reached.

    A fault of this machine (a full store, the deadline) is raised at once. With one source its own error is
    raised; with several, NoSourceError with each one's reason.
    """
    failures: list[tuple[Source, LoaderError]] = []
    for source, following in zip(sources, [*sources[1:], None], strict=True):
        retry.check()
        try:
            if following is None:
                return work(source, retry)
            # A download that fails stops its own threads, not the next source's.
            hasty = dataclasses.replace(retry, tries=min(retry.tries, HASTY_TRIES), stop=threading.Event())
            retrying(hasty, partial(_ask, source, path))
            return work(source, hasty)
        except (SourceError, TransientError, IntegrityError, RangesError, ChangedError) as error:
            failures.append((source, error))
            if following:
                reporter.event("unavailable", source=source.name, reason=str(error), next=following.name)
    if len(failures) == 1:
        raise failures[0][1]
    reasons = "; ".join(f"{source.name}: {str(error).rstrip('.')}" for source, error in failures)
    raise NoSourceError(
        f"{NO_SOURCE}. {reasons}. Make one of them reachable (HTTPS_PROXY, HF_ENDPOINT,"
        " PIP_INDEX_URL), pass --source with a mirror or a folder, or use `model-loader import`."
    )


def _ask(source: Source, path: str) -> None:
    try:
        source.open(path, 0, 1, None).close()
    except RangesError:  # an empty file, or a source without ranges: the download decides
        return
