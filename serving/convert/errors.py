"""The one error of a conversion."""


class ConversionError(Exception):
    """A model that cannot be converted; the message names the cause and the remedy."""
