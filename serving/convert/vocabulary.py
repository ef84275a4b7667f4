"""Reads the tokens and the end-of-text token of a model from ``tokenizer.json`` and ``config.json``."""

import json

from serving.convert.checkpoint import Checkpoint
from serving.convert.errors import ConversionError


def tokens(checkpoint: Checkpoint) -> list[str]:
    """Return one distinct string per id of the model's head, in the order of the ids.

    A head often has more ids than the tokenizer has tokens (CodeGen: 51200 and 50295); these get a
    placeholder, so that a client can send any id that the model can generate. Raises ``ConversionError``.
    """
    size = checkpoint.number("vocab_size")
    by_id = {index: text for text, index in _vocabulary(checkpoint).items()}
    if by_id and max(by_id) >= size:
        raise ConversionError(
            f"tokenizer.json has token id {max(by_id)} but config.json says vocab_size {size}: "
            "the tokenizer belongs to another model"
        )
    return [by_id.get(index, f"<extra_id_{index}>") for index in range(size)]


def eos_id(checkpoint: Checkpoint) -> int:
    """Return the end-of-text id, the first if ``config.json`` lists several. Raises ``ConversionError``."""
    value = checkpoint.config.get("eos_token_id")
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, int):
        raise ConversionError(
            f"config.json in {checkpoint.directory} has no eos_token_id: add the end-of-text id"
        )
    if value >= checkpoint.number("vocab_size"):
        raise ConversionError(
            f"eos_token_id {value} in config.json is outside the vocabulary: fetch the model again"
        )
    return value


def _vocabulary(checkpoint: Checkpoint) -> dict[str, int]:
    path = checkpoint.directory / "tokenizer.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        vocabulary = dict(document["model"]["vocab"])
        vocabulary |= {token["content"]: token["id"] for token in document.get("added_tokens", [])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConversionError(
            f"cannot read {path} ({error!r}): a byte-level BPE tokenizer.json is required"
        ) from error
    return vocabulary
