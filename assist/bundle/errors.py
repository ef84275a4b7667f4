"""The error of this package."""


class BundleError(Exception):
    """A bundle was refused or can't be built; the message names the remedy."""
