"""The catalogue's facts of a safetensors model, from config.json, the tokenizer and the weights' headers."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from model_loader.errors import ModelError
from model_loader.inspection import tokens
from model_loader.inspection.gguf_facts import Facts, gib
from model_loader.inspection.repository import read_json
from model_loader.inspection.source_bytes import SourceBytes
from model_loader.sources.protocols import Source

_MAX_HEADER = 32 * 1024 * 1024
_MOST = 1 << 44
# config.json's names of a number, by architecture's habit.
_NAMES = {
    "layers": ("num_hidden_layers", "n_layer"),
    "width": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx"),
    "vocabulary": ("vocab_size",),
}
# Bytes of a weight in each precision that a converter makes; Q8_0 has 34 bytes for 32 weights.
_CONVERTED = {
    "ctranslate2": {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int8_float16": 1.0},
    "llama_cpp": {"Q8_0": 34 / 32, "F16": 2.0, "F32": 4.0},
    "onnxruntime": {"int8": 1.0},
}


def facts(
    source: Source, sizes: Mapping[str, int], weights: Sequence[str], converters: Mapping[str, Sequence[str]]
) -> Facts:
    """Return the facts of a model whose ``weights`` are safetensors files.

    Args:
        source: where the files are; only headers and small documents are read.
        sizes: bytes of each file.
        weights: names of the files with the weights.
        converters: the architectures that each runtime's converter takes.

    Raises ModelError for what no runtime here converts, and for damaged or missing files, else as the source.

    """
    config = read_json(source, "config.json", sizes)
    architecture = config.get("model_type")
    runtimes = [name for name, able in converters.items() if architecture in able]
    if not runtimes:
        able = sorted({each for names in converters.values() for each in names})
        raise ModelError(
            f"{source.name} is {architecture!r}, which no runtime here converts from safetensors"
            f" (they convert {', '.join(able)}). Add a GGUF file of the model."
        )
    numbers = {field: _number(config, names) for field, names in _NAMES.items()}
    kv_heads = _number(config, ("num_key_value_heads",), numbers["heads"])
    parameters = sum(_parameters(source, name, sizes[name]) for name in weights)
    bytes_of = {key: size for runtime in runtimes for key, size in _CONVERTED[runtime].items()}
    values: dict[str, Any] = {
        "architecture": architecture,
        "format": "safetensors",
        "parameters": parameters,
        "kv_width": kv_heads * _number(config, ("head_dim",), max(1, numbers["width"] // numbers["heads"])),
        "memory_gib": {key: gib(parameters * size) for key, size in bytes_of.items()},
    }
    return Facts(values | numbers | _tokens(source, sizes), None)


def _number(config: Mapping[str, Any], names: Sequence[str], default: int | None = None) -> int:
    value = next((config[name] for name in names if config.get(name) is not None), default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _MOST:
        raise ModelError(
            f"config.json has no usable {' or '.join(names)}: {str(value)[:40]}. Get the files again."
        )
    return value


def _parameters(source: Source, name: str, size: int) -> int:
    """Return the number of weights in one safetensors file, from its header."""
    data = SourceBytes(source, name, size)
    length = int.from_bytes(data.read(0, 8), "little")
    if length > _MAX_HEADER:
        raise ModelError(f"{name} is damaged: its header claims {length} bytes. Download it again.")
    try:
        header = json.loads(data.read(8, length))
        header.pop("__metadata__", None)
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        count = int(sum(math.prod(entry["shape"]) for entry in header.values()))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError):
        raise ModelError(f"{name} is not a safetensors file, or is damaged. Download it again.") from None
    if end > size:
        raise ModelError(f"{name} is cut off: it has {size} bytes of {end}. Download it again.")
    return count


def _tokens(source: Source, sizes: Mapping[str, int]) -> dict[str, Any]:
    added = read_json(source, "tokenizer.json", sizes).get("added_tokens")
    special = {
        str(token["content"])
        for token in (added if isinstance(added, list) else [])
        if isinstance(token, dict) and "content" in token
    }
    config = read_json(source, "tokenizer_config.json", sizes) if "tokenizer_config.json" in sizes else {}
    end = config.get("eos_token")
    ends = [text for text in (end.get("content") if isinstance(end, dict) else end,) if isinstance(text, str)]
    has_template = bool(config.get("chat_template")) or "chat_template.jinja" in sizes
    return {
        "stop": tokens.stop(special, ends),
        "fim": tokens.fim(special, ends, source.name),
        "chat_template": has_template,
    }
