"""The error of a conversion, in a module that imports no runtime."""


class ConversionError(Exception):
    """The model cannot be converted; the message names the cause and the remedy."""
