"""Which Kubernetes versions GKE offers: a list of our own, as Google's changes every week."""

import re

from testing.gcp.cloud import GoogleError

# The patch that a minor version stands for, oldest first. What is older is out of support.
OFFERED = {
    "1.31": "1.31.13-gke.1008000",
    "1.32": "1.32.9-gke.1130000",
    "1.33": "1.33.5-gke.1080000",
    "1.34": "1.34.1-gke.1829001",
    "1.35": "1.35.0-gke.1403000",
}
DEFAULTS = {"RAPID": "1.35", "REGULAR": "1.34", "STABLE": "1.33", "EXTENDED": "1.33", "UNSPECIFIED": "1.34"}


def resolve(asked: str | None, channel: str = "UNSPECIFIED") -> str:
    """Return the whole version that GKE makes of what is asked for. Raises GoogleError for one that it does not have."""
    if asked in {None, "", "-"}:
        return OFFERED[DEFAULTS[channel]]
    if asked == "latest":
        return list(OFFERED.values())[-1]
    found = re.fullmatch(r"(1\.\d+)(\.\d+)?(-gke\.\d+)?", str(asked))
    if found is None or found[1] not in OFFERED:
        raise GoogleError(
            400, f'Master version "{asked}" is unsupported: GKE has {", ".join(OFFERED)}', "badRequest"
        )
    if found[3]:
        return str(asked)
    return (
        OFFERED[found[1]]
        if not found[2]
        else f"{found[1]}{found[2]}{OFFERED[found[1]][OFFERED[found[1]].index('-') :]}"
    )


def order(version: str) -> tuple[int, ...]:
    """Return what versions are sorted by."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def minor(version: str) -> int:
    """Return the second number of a version."""
    return order(version)[1]
