"""The catalogue's facts of a GGUF model, from the file's header."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from model_loader.errors import ModelError
from model_loader.inspection import licences, tokens
from serving.backend.gguf_header import TENSOR_TYPES, Header

_MOST = 1 << 44
# llama.cpp's llama_ftype: how a whole file is quantised.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
# The file's type where it does not say one: that of most weights.
_OF_TENSORS = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}
# llama.cpp's llama_token_type: control tokens, and those that a model's makers added.
_SPECIAL = frozenset({3, 4})
_FIM_KEYS = {
    "prefix": ("fim_pre_token_id", "prefix_token_id"),
    "suffix": ("fim_suf_token_id", "suffix_token_id"),
    "middle": ("fim_mid_token_id", "middle_token_id"),
}


@dataclass(frozen=True)
class Facts:
    """``values`` by the names of the catalogue's fields, and the ``licence`` that the files name, if any."""

    values: dict[str, Any]
    licence: str | None


def facts(header: Header, size: int) -> Facts:
    """Return the facts of a file of ``size`` bytes.

    Raises ModelError for a file that is cut off, for a part of a model, and for one that lacks a fact.
    """
    _check_whole_model(header)
    if header.end > size:
        raise ModelError(
            f"{header.name} is cut off: it has {size} bytes of at least {header.end}. Download it again."
        )
    vocabulary = _vocabulary(header)
    heads = _number(header, "attention.head_count", 1)
    width = _number(header, "embedding_length")
    values: dict[str, Any] = {
        "architecture": header.metadata["general.architecture"],
        "format": "gguf",
        "parameters": sum(header.elements.values()),
        "context_length": _number(header, "context_length"),
        "layers": _number(header, "block_count"),
        "kv_width": _kv_width(header, heads, width),
        "width": width,
        "heads": heads,
        "vocabulary": len(vocabulary) or _number(header, "vocab_size"),
        "memory_gib": {_file_type(header): gib(size)},
        "chat_template": "tokenizer.chat_template" in header.metadata,
    }
    return Facts(values | _tokens(header, vocabulary), licences.known(header.metadata.get("general.license")))


def gib(size: float) -> float:
    """Return bytes in GiB as the catalogue has them, which are never 0."""
    return max(round(size / 2**30, 4), 0.0001)


def _check_whole_model(header: Header) -> None:
    metadata = header.metadata
    if not isinstance(metadata.get("general.architecture"), str):
        raise ModelError(
            f"{header.name} does not say its architecture (general.architecture). Get another file."
        )
    kind = metadata.get("general.type", "model")
    if kind != "model":
        raise ModelError(
            f"{header.name} is not a model but its {kind!r} (general.type). Add the model's file."
        )
    parts = metadata.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise ModelError(
            f"{header.name} is one of {parts} parts, and parts are not served. Join them with llama.cpp's"
            " `llama-gguf-split --merge FIRST_PART WHOLE.gguf`, and add the whole file."
        )
    if not header.tensors:
        raise ModelError(f"{header.name} has no weights, only metadata. Add the model's file.")


def _number(header: Header, key: str, default: int | None = None) -> int:
    """Return a positive number of the header; of a list, one for each layer, the largest."""
    value = header.shape(key, default)
    each = value if isinstance(value, list) and value else [value]
    if (
        not all(isinstance(one, int) and not isinstance(one, bool) for one in each)
        or not 0 < max(each) < _MOST
    ):
        name = f"{header.metadata['general.architecture']}.{key}"
        raise ModelError(f"{header.name} has no usable {name}: {str(value)[:40]}. Get another file.")
    return int(max(each))


def _kv_width(header: Header, heads: int, width: int) -> int:
    """Return the KV heads times the mean of a key's and a value's width, the most of any layer."""
    kv_heads = _number(header, "attention.head_count_kv", heads)
    key = _number(header, "attention.key_length", max(1, width // heads))
    value = _number(header, "attention.value_length", key)
    return -(-kv_heads * (key + value) // 2)


def _file_type(header: Header) -> str:
    stated = header.metadata.get("general.file_type")
    if isinstance(stated, int) and stated in FILE_TYPES:
        return FILE_TYPES[stated]
    weights: Counter[int] = Counter()
    for tensor in header.tensors.values():
        weights[tensor.kind] += tensor.elements
    most = weights.most_common(1)[0][0]
    name = TENSOR_TYPES.get(most, (f"type {most}", 1, 0))[0]
    return _OF_TENSORS.get(name, name)


def _vocabulary(header: Header) -> list[str]:
    texts = header.metadata.get("tokenizer.ggml.tokens") or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ModelError(f"{header.name} is damaged: tokenizer.ggml.tokens is no list of texts.")
    return texts


def _tokens(header: Header, vocabulary: list[str]) -> dict[str, Any]:
    metadata = header.metadata
    kinds = metadata.get("tokenizer.ggml.token_type") or []
    if not isinstance(kinds, list) or not all(isinstance(kind, int) for kind in kinds):
        raise ModelError(f"{header.name} is damaged: tokenizer.ggml.token_type is no list of numbers.")
    special = {text for text, kind in zip(vocabulary, kinds, strict=False) if kind in _SPECIAL}

    def text(*keys: str) -> str | None:
        found = (metadata.get(f"tokenizer.ggml.{key}") for key in keys)
        return next(
            (vocabulary[at] for at in found if isinstance(at, int) and 0 <= at < len(vocabulary)), None
        )

    ends = [token for token in (text("eos_token_id"), text("eot_token_id")) if token is not None]
    named = {part: token for part, keys in _FIM_KEYS.items() if (token := text(*keys)) is not None}
    known = f"{metadata.get('general.name', '')} {header.name}"
    return {"stop": tokens.stop(special, ends), "fim": tokens.fim(special, ends, known, named)}
