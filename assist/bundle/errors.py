"""What stops a bundle."""


class BundleError(Exception):
    """A bundle that is refused or can't be made; the message names the remedy."""
