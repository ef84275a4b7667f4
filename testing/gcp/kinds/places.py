"""Google's regions and zones, and the names by which resources refer to each other."""

import re
from dataclasses import dataclass, field

# Which zones a region has, where they are not a, b and c (cloud.google.com/compute/docs/regions-zones).
_OTHER = {"us-central1": "abcf", "us-east1": "bcd", "europe-west1": "bcd"}
_REGION = re.compile(r"^[a-z]+-[a-z]+[0-9]{1,2}$")


@dataclass(frozen=True)
class Where:
    """What the provider was configured with: where resources go that do not say it themselves."""

    project: str
    region: str | None = None
    zone: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


def is_region(location: str) -> bool:
    """Return whether a location is a region's name."""
    return bool(_REGION.match(location))


def is_zone(location: str) -> bool:
    """Return whether a location is a zone that its region has."""
    region, _, letter = location.rpartition("-")
    return is_region(region) and letter in _OTHER.get(region, "abc") and len(letter) == 1


def region_of(location: str) -> str:
    """Return the region of a zone, or the region itself."""
    return location if is_region(location) else location.rpartition("-")[0]


def relative(link: str) -> str:
    """Return ``projects/...`` of an address, or the value itself where it is none."""
    found = re.search(r"projects/.*", link)
    return found[0] if found else link


def same(one: object, other: object) -> bool:
    """Return whether two values are equal, or two addresses of the same thing."""
    if isinstance(one, str) and isinstance(other, str) and "projects/" in one and "/" in other:
        return relative(one) == relative(other)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def network(link: str, where: Where) -> str:
    """Return the id of a network that is given by name or address."""
    return relative(link) if "/" in link else f"projects/{where.project}/global/networks/{link}"


def subnetwork(link: str, where: Where, region: str) -> str:
    """Return the id of a subnetwork that is given by name or address."""
    return relative(link) if "/" in link else f"projects/{where.project}/regions/{region}/subnetworks/{link}"
