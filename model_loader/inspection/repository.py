"""What a repository or a folder has of a model: safetensors, shards with their index, GGUF files, pickles."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from model_loader import path_rules
from model_loader.errors import ModelError, SourceError
from model_loader.inspection import licences
from model_loader.inspection.source_bytes import SourceBytes
from model_loader.plan import WantedFile
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources.protocols import HubSource, Source

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
PICKLED_INDEX, PICKLED_SINGLE = "pytorch_model.bin.index.json", "pytorch_model.bin"
REQUIRED = ("config.json", "tokenizer.json")
_OPTIONAL = ("generation_config.json", "tokenizer_config.json", "chat_template.jinja")
_MAX_DOCUMENT = 64 * 1024 * 1024
_MAX_SHARDS = 1000
_MAX_CARD = 64 * 1024
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_NEWEST_PULLS = 20


@dataclass(frozen=True)
class Conversion:
    """A pull request that adds safetensors: its ``reference`` (refs/pr/N), ``commit`` and files."""

    reference: str
    commit: str
    files: dict[str, WantedFile]


def known_sizes(files: Mapping[str, WantedFile]) -> dict[str, int]:
    """Return the bytes of each file whose size the source says."""
    return {path: file.size for path, file in files.items() if file.size is not None}


def gguf_files(names: Collection[str]) -> list[str]:
    """Return the GGUF files by name."""
    return sorted(name for name in names if name.lower().endswith(".gguf"))


def pickles(names: Collection[str]) -> list[str]:
    """Return the pickled weights by name."""
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in _PICKLES)


def safetensors(source: Source, sizes: Mapping[str, int]) -> list[str]:
    """Return the files with the weights in safetensors: one, or the shards of the index; empty without.

    Raises ModelError for an index that names files which are not there, else as the source.
    """
    if SINGLE in sizes:
        return [SINGLE]
    if INDEX in sizes:
        return _shards(source, INDEX, sizes)
    return sorted(name for name in sizes if name.endswith(".safetensors") and "/" not in name)[:1]


def pickled(source: Source, sizes: Mapping[str, int]) -> list[str]:
    """Return the files with the weights in pickles: one, or the shards of the index; empty without.

    Other pickles, such as a trainer's arguments, are no weights. Raises as ``safetensors``.
    """
    if PICKLED_SINGLE in sizes:
        return [PICKLED_SINGLE]
    if PICKLED_INDEX not in sizes:
        return []
    shards = _shards(source, PICKLED_INDEX, sizes)
    if others := [name for name in shards if not path_rules.is_pickled(name)]:
        raise ModelError(f"{source.name}: {PICKLED_INDEX} names {others[0]}, which is no shard of weights.")
    return shards


def _shards(source: Source, index: str, sizes: Mapping[str, int]) -> list[str]:
    weights = read_json(source, index, sizes).get("weight_map")
    shards = sorted({str(name) for name in weights.values()}) if isinstance(weights, dict) else []
    if missing := [name for name in shards if name not in sizes]:
        raise ModelError(f"{source.name} lacks {', '.join(missing[:5])}, which {index} names. Get them too.")
    if not 0 < len(shards) <= _MAX_SHARDS:
        raise ModelError(f"{source.name}: {index} names {len(shards)} files with weights. Get it again.")
    return shards


def documents(names: Collection[str], weights: Sequence[str]) -> list[str]:
    """Return all files that a model with these weights is served from. Raises ModelError if one lacks."""
    if missing := [name for name in REQUIRED if name not in names]:
        raise ModelError(
            f"{', '.join(missing)} missing beside {weights[0]}: the model can't be served without."
        )
    index = [PICKLED_INDEX if path_rules.is_pickled(weights[0]) else INDEX] if len(weights) > 1 else []
    return sorted([*REQUIRED, *(name for name in _OPTIONAL if name in names), *index, *weights])


def read_json(source: Source, name: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return a JSON object from a source. Raises ModelError where it is missing or is none."""
    size = sizes.get(name)
    if size is None:
        raise ModelError(f"{source.name} has no {name}, without which the model can't be served.")
    if size > _MAX_DOCUMENT:
        raise ModelError(f"{name} has {size} bytes, more than the {_MAX_DOCUMENT} that are read.")
    try:
        value = json.loads(SourceBytes(source, name, size).read(0, size))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name} is not JSON ({error}). Get it again.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{name} is not a JSON object. Get it again.")
    return value


def card_licence(source: Source, sizes: Mapping[str, int]) -> str | None:
    """Return the licence in the head of a folder's README.md, as hubs keep it there, or None."""
    size = sizes.get("README.md")
    if size is None:
        return None
    text = SourceBytes(source, "README.md", size).read(0, min(size, _MAX_CARD)).decode("utf-8", "replace")
    head = text.split("---", 2)
    if len(head) < 3 or head[0].strip():
        return None
    try:
        card = yaml.safe_load(head[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return licences.of_card(card)


def conversion(hub: HubSource, retry: RetryPolicy) -> Conversion | None:
    """Return the newest pull request that adds safetensors weights, as conversion robots make them, or None.

    Only the newest 20 are looked at. Raises as ``HubSource.listing``; a hub without pull requests has none.
    """
    try:
        references = retrying(retry, hub.pull_requests)
    except SourceError:
        return None
    for reference in references[:_NEWEST_PULLS]:
        try:
            commit, files = retrying(retry, hub.at(reference).listing)
        except SourceError:
            continue  # closed, or without access: the next may do
        if SINGLE in files or INDEX in files:
            return Conversion(reference, commit, files)
    return None
