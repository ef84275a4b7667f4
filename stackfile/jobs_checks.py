"""What must hold between the settings of ``jobs`` and the rest of the stack."""

from collections.abc import Iterator

from stackfile.document import Location
from stackfile.stack import CLUSTERS, Stack

Finding = tuple[Location, str]


def findings(stack: Stack) -> Iterator[Finding]:
    """Yield every conflict of the ``jobs`` section, which may be left out."""
    jobs = stack.jobs
    if jobs.enabled and stack.target in CLUSTERS:
        yield (
            ("jobs", "enabled"),
            f"no worker runs on {stack.target} yet, so nothing would take a job off the queue; remove it, or"
            " use target: hosts",
        )
    if jobs.max_bytes > stack.limits.max_body_bytes:
        yield (
            ("jobs", "max_bytes"),
            f"{jobs.max_bytes} exceeds limits.max_body_bytes ({stack.limits.max_body_bytes}), which counts"
            " first; lower it or raise that",
        )
