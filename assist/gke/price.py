"""The price of the plan as a finding."""

from collections.abc import Iterator

from assist.findings import Finding, ok, unknown
from assist.gke import availability, prices
from assist.gke.google import Google
from assist.gke.prices import HOURS_A_MONTH
from stackfile.gke import Gke
from stackfile.resolved import ResolvedStack

CALCULATOR = "https://cloud.google.com/products/calculator"


def price(service: ResolvedStack, gke: Gke, client: Google) -> Iterator[Finding]:
    """Yield the bill line by line and its sum; a line without a price is named beside the sum."""
    lines = prices.bill(service, availability.sizes(service, gke, client))
    listed = prices.prices()
    for line in lines:
        if line.most is None:
            cause = f"no price of {listed.as_of} is known for {line.name} in {gke.region}"
            yield unknown(
                f"price {line.name}", cause, f"look it up and add it to catalogue/prices.yaml: {CALCULATOR}"
            )
        else:
            yield ok(f"price {line.name}", _range(line.least, line.most))
    least, most, missing = prices.total(lines)
    credit = "; Google's free tier may cover the control plane" if _free(gke, listed.free_cluster) else ""
    plus = f", and what is unknown of: {', '.join(missing)}" if missing else ""
    yield ok("price", f"{_range(least, most)}{plus}; list prices of {listed.as_of}, without traffic{credit}")


def _free(gke: Gke, kinds: tuple[str, ...]) -> bool:
    return ("autopilot" if gke.autopilot else gke.control_plane) in kinds


def _range(least: float | None, most: float) -> str:
    """Return USD an hour and a month, from the fewest to the most nodes."""
    low = most if least is None else least
    hour = f"{low:.2f}" if low == most else f"{low:.2f} to {most:.2f}"
    month = (
        f"{low * HOURS_A_MONTH:.0f}"
        if low == most
        else f"{low * HOURS_A_MONTH:.0f} to {most * HOURS_A_MONTH:.0f}"
    )
    return f"{hour} USD an hour, {month} USD a month"
