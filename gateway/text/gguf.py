"""The tokenizer inside a GGUF file, as a ``tokenizer.json``: such models often consist of that one file.

Tokenizers that this module cannot reproduce exactly as llama.cpp has them are refused: other token ids would
be another prompt.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

_MAGIC = b"GGUF"
# GGUF's scalars by their number (ggml's docs/gguf.md); 8 is a string and 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
# Kinds of tokens, llama.cpp's llama_token_type.
_NORMAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4
_WORD_START = "\u2581"
# How llama.cpp splits text before it merges tokens, by the name in the file; None is GPT-2's own expression.
_SPLITS = {
    "gpt-2": None,
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


def metadata(file: Path) -> dict[str, Any]:
    """Return the metadata at the head of a GGUF file, without reading the weights behind it.

    Raises ``ValueError`` for a file of another format or version.
    """
    with file.open("rb") as stream:
        if stream.read(4) != _MAGIC or (version := _scalar(stream, "I")) not in {2, 3}:
            raise ValueError(f"{file.name} is not a GGUF file of version 2 or 3")
        _scalar(stream, "Q")
        facts = {}
        for _ in range(_scalar(stream, "Q")):
            key = _string(stream)
            facts[key] = _value(stream, _scalar(stream, "I"))
    return facts | {"version": version}


def _scalar(stream: BinaryIO, code: str) -> Any:  # noqa: ANN401 -- whichever of GGUF's types
    size = struct.calcsize(code)
    return struct.unpack(f"<{code}", stream.read(size))[0]


def _string(stream: BinaryIO) -> str:
    return stream.read(_scalar(stream, "Q")).decode("utf-8", "replace")


def _value(stream: BinaryIO, kind: int) -> Any:  # noqa: ANN401 -- whichever of GGUF's types
    if kind == _STRING:
        return _string(stream)
    if kind != _ARRAY:
        return _scalar(stream, _SCALARS[kind])
    inner, count = _scalar(stream, "I"), _scalar(stream, "Q")
    if inner in {_STRING, _ARRAY}:
        return [_value(stream, inner) for _ in range(count)]
    code = f"<{count}{_SCALARS[inner]}"
    return list(struct.unpack(code, stream.read(struct.calcsize(code))))


def tokenizer(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``tokenizer.json``; raises ``ValueError`` with the remedy for unknown ones."""
    kind, split = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    if kind == "llama":
        document, starts = _sentence_piece(facts), True
    elif kind == "gpt2" and split in _SPLITS:
        document, starts = _byte_level(facts, _SPLITS[split]), False
    else:
        raise ValueError(
            f"the GGUF file's tokenizer {kind!r} with pre-tokenizer {split!r} is not supported; put the"
            " model's tokenizer.json beside it (name it among the model's files in the catalogue)"
        )
    first = facts.get("tokenizer.ggml.bos_token_id")
    if first is not None and facts.get("tokenizer.ggml.add_bos_token", starts):
        document["post_processor"] = _beginning(facts["tokenizer.ggml.tokens"][first], first)
    return document


def _byte_level(facts: dict[str, Any], expression: str | None) -> dict[str, Any]:
    level: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    level["use_regex"] = expression is None
    steps = [level]
    if expression is not None:
        pattern = {"Regex": expression}
        split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        steps = [split, level]
    merges = [merge.split(" ", 1) for merge in facts["tokenizer.ggml.merges"]]
    model = {"type": "BPE", "vocab": _vocabulary(facts), "merges": merges}
    parts = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}, "decoder": level}
    return _document(facts, model) | parts


def _sentence_piece(facts: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    unknown = tokens[facts.get("tokenizer.ggml.unknown_token_id", 0)]
    model: dict[str, Any] = {"type": "BPE", "vocab": _vocabulary(facts), "merges": _merges(facts)}
    model |= {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True}
    spaces: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": _WORD_START}]
    if facts.get("tokenizer.ggml.add_space_prefix", True):
        spaces.insert(0, {"type": "Prepend", "prepend": _WORD_START})
    return _document(facts, model) | {"normalizer": {"type": "Sequence", "normalizers": spaces}}


def _merges(facts: dict[str, Any]) -> list[list[str]]:
    """Return every way to compose a token of two others, the best token first.

    SentencePiece merges the neighbours whose token has the best score; BPE does the same by rank.
    """
    kinds, scores = facts["tokenizer.ggml.token_type"], facts["tokenizer.ggml.scores"]
    scored = zip(facts["tokenizer.ggml.tokens"], scores, kinds, strict=True)
    normal = {token: score for token, score, kind in scored if kind == _NORMAL}
    best_first = sorted(normal, key=lambda token: -normal[token])
    halves = ((token[:at], token[at:]) for token in best_first for at in range(1, len(token)))
    return [[left, right] for left, right in halves if left in normal and right in normal]


def _vocabulary(facts: dict[str, Any]) -> dict[str, int]:
    return {token: index for index, token in enumerate(facts["tokenizer.ggml.tokens"])}


def _document(facts: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    kinds = facts.get("tokenizer.ggml.token_type", [])
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        plain | {"id": index, "content": facts["tokenizer.ggml.tokens"][index], "special": kind != _USER}
        for index, kind in enumerate(kinds)
        if kind in {_UNKNOWN, _CONTROL, _USER}
    ]
    parts = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {"version": "1.0", "added_tokens": added, "model": model} | dict.fromkeys(parts)


def _beginning(token: str, index: int) -> dict[str, Any]:
    """Return the post-processor that puts the beginning-of-text token before a prompt."""
    start, text = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    special = {token: {"id": token, "ids": [index], "tokens": [token]}}
    return {
        "type": "TemplateProcessing",
        "single": [start, text],
        "pair": [start, text, second],
        "special_tokens": special,
    }
