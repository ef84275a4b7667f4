"""Converts a published revision for a runtime; the variant is published like a download."""

import hashlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from model_loader import atomic_files, fetch, path_rules
from model_loader.download.hashing import hash_file
from model_loader.errors import LoaderError
from model_loader.plan import Plan, WantedFile
from model_loader.store import staging
from model_loader.store import store as stores

TOOLS = {"ctranslate2": "ctranslate2", "llama_cpp": "gguf", "onnxruntime": "onnx"}

# Called with source, target, runtime, precision, and what counts the bytes that were converted.
Converter = Callable[[Path, Path, str, str, Callable[[int], None]], None]


class ConversionFailed(LoaderError):  # noqa: N818  -- reads as what happened
    """The conversion failed; the source revision and any earlier variant are unchanged."""


def convert(
    base: Path, runtime: str, precision: str, run: fetch.Run, converter: Converter | None = None
) -> Path:
    """Publish the variant of a revision for a runtime, switch its ``current`` link and return its folder.

    A variant that the same tool version made is not made again. A revision that is a GGUF file needs no
    conversion for ``llama_cpp``: the link then points to the revision itself.

    Args:
        base: the folder of a published revision.
        runtime: ``ctranslate2``, ``llama_cpp`` or ``onnxruntime``.
        precision: a precision of that runtime, such as ``int8`` (``serving.convert.PRECISIONS``).
        run: the store, the options, the retry policy and the reporter.
        converter: ``serving.convert`` by default.

    Raises:
        ConversionFailed: the revision is incomplete, the runtime is unknown or not installed, or the
            converter raised an error.
        StoreError: the store is full or cannot be written.
        Stopped: the run was stopped, or its deadline passed.

    """
    manifest = stores.read(base)
    if runtime not in TOOLS:
        raise ConversionFailed(f"unknown runtime {runtime!r}; choose one of {', '.join(TOOLS)}.")
    if manifest is None:
        raise ConversionFailed(f"{base.name} has no valid manifest; fetch the model again.")
    variant = f"{runtime}-{precision}"
    if runtime == "llama_cpp" and any(f.path.endswith(".gguf") for f in manifest.files):
        run.store.switch(manifest.model, base.name, variant)
        return base
    extra = _facts(base, manifest, runtime, precision)
    folder = run.store.find_variant(manifest.model, extra)
    if folder is None:
        folder = _convert_new(base, manifest, extra, run, converter)
    run.store.switch(manifest.model, folder.name, variant)
    return folder


def check_readable(plan: Plan) -> None:
    """Raise ConversionFailed where pickled weights would be fetched that nothing here can read."""
    if not any(path_rules.is_pickled(file.path) for file in plan.files):
        return
    try:
        from serving.convert import ConversionError, pickled
    except ModuleNotFoundError as error:
        raise ConversionFailed(
            f"{error.name} is not installed; run the loader from the serving environment."
        ) from None
    try:
        pickled.interpreter()
    except ConversionError as error:
        raise ConversionFailed(f"{plan.model} was not fetched: {error}.") from error


def is_installed(runtime: str) -> bool:
    """Return whether the tool that converts for ``runtime`` is in this environment."""
    try:
        version(TOOLS[runtime])
    except (PackageNotFoundError, KeyError):
        return False
    return True


def _facts(base: Path, manifest: stores.Manifest, runtime: str, precision: str) -> dict[str, Any]:
    try:
        tool = version(TOOLS[runtime])
    except PackageNotFoundError:
        raise ConversionFailed(
            f"{TOOLS[runtime]} is not installed; run the loader from the serving environment."
        ) from None
    source = {"folder": base.name, "digest": manifest.digest}
    return {
        "converted_from": source,
        "runtime": runtime,
        "precision": precision,
        "tools": {TOOLS[runtime]: tool},
    }


def _convert_new(
    base: Path, manifest: stores.Manifest, extra: dict[str, Any], run: fetch.Run, converter: Converter | None
) -> Path:
    runtime, precision = extra["runtime"], extra["precision"]
    key = hashlib.sha256(repr(sorted(extra.items())).encode()).hexdigest()
    with staging.workspace(run.store.root, key, run.retry) as work:
        if (folder := run.store.find_variant(manifest.model, extra)) is not None:
            return folder
        # float32, the widest precision, has four bytes per weight; the narrowest source has two.
        fetch.check_space(
            Plan(manifest.model, manifest.revision, (*manifest.files, *manifest.files)), work, run
        )
        run.reporter.event("convert", source=str(base), runtime=runtime, precision=precision)
        run.reporter.expect(sum(file.size or 0 for file in manifest.files if _is_weight(file.path)))
        _run_converter(converter or _installed(), base, work.tree, runtime, precision, run.reporter.add)
        files = tuple(_hash_tree(work.tree))
        converted = stores.Manifest(manifest.model, manifest.revision, manifest.source, files, extra)
        folder = run.store.publish(work, converted, f"{runtime}-{precision}")
    run.reporter.event("published", path=str(folder))
    return folder


def _installed() -> Converter:
    from serving.convert import convert as serving_convert

    return serving_convert


def _is_weight(path: str) -> bool:
    return path.endswith(".safetensors") or path_rules.is_pickled(path)


def _run_converter(
    converter: Converter, base: Path, target: Path, runtime: str, precision: str, count: Callable[[int], None]
) -> None:
    try:
        converter(base, target, runtime, precision, count)
    except LoaderError:
        raise
    except Exception as error:
        raise ConversionFailed(f"converting {base.name} to {runtime} {precision} failed: {error}") from error


def _hash_tree(tree: Path) -> list[WantedFile]:
    paths = sorted(p for p in tree.rglob("*") if not p.is_dir() or p.is_symlink())
    if not paths:
        raise ConversionFailed("the converter wrote no files.")
    if links := [p.name for p in paths if p.is_symlink()]:
        raise ConversionFailed(
            f"the converter created symbolic links ({links[0]}); a variant must not have any."
        )
    for path in paths:
        atomic_files.sync_file(path)
    return [WantedFile(str(p.relative_to(tree)), p.stat().st_size, hash_file(p)) for p in paths]
