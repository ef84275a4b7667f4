"""What is known of a licence from its id alone."""

import re
from dataclasses import dataclass

# Licences whose terms allow commercial use of a model without asking who uses it, by SPDX's id.
_FREE = (
    "Apache-2.0", "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "ISC", "Zlib",
    "BSL-1.0", "PSF-2.0", "MPL-2.0", "Unlicense", "0BSD", "WTFPL", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0",
    "CC-BY-SA-4.0", "ECL-2.0", "EPL-2.0", "EUPL-1.2", "LGPL-3.0", "GPL-2.0", "GPL-3.0", "AGPL-3.0",
    "CDLA-Permissive-2.0",
)  # fmt: skip
# Longer texts are a licence, not its name.
_MOST = 100
_NONE = frozenset({"", "unknown", "other", "none", "custom", "proprietary"})


@dataclass(frozen=True)
class Licence:
    """A licence's ``id``; ``commercial`` is False also where its terms are not known here."""

    id: str
    commercial: bool
    restrictions: str | None = None


def known(text: object) -> str | None:
    """Return the id of what a file or a hub's card says, or None where that names no licence."""
    words = re.findall(r"[A-Za-z0-9.+-]+", text[:_MOST]) if isinstance(text, str) else []
    name = "-".join(words).lstrip("-.+")
    return None if name.lower() in _NONE else name


def of_card(card: object) -> str | None:
    """Return the licence in the head of a model's card, or None.

    The card of a licence that the hub does not list says `other`, and its name beside it.
    """
    if not isinstance(card, dict):
        return None
    return known(card.get("license")) or known(card.get("license_name"))


def licence(name: str, catalogue: dict[str, Licence]) -> Licence:
    """Return the facts of a licence by its id in any case; ``catalogue``: those of its models, lower-cased.

    A licence that neither knows is taken for one that does not allow commercial use.
    """
    if (listed := catalogue.get(name.lower())) is not None:
        return listed
    spdx = {each.lower(): each for each in _FREE}
    return Licence(spdx.get(name.lower(), name), name.lower() in spdx)
