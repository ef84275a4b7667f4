"""Conversion through the store: a variant is published like a model, made once, and absent after an error."""

from hashlib import sha256
from pathlib import Path

import pytest

from model_loader import conversion, maintenance
from model_loader.store import store as stores
from testing import needs
from tests.model_loader.lab import MODEL, Lab
from tests.model_loader.test_command_line import BIG, loader


def _convert(source: Path, target: Path, _runtime: str, precision: str, *_: object) -> None:
    (target / "model.bin").write_bytes(sha256((source / BIG).read_bytes() + precision.encode()).digest())
    (target / "config.json").write_bytes((source / "config.json").read_bytes())


def test_a_conversion_is_published_like_a_model_and_done_once(lab: Lab) -> None:
    base, calls = lab.fetch(), []

    def converter(*arguments) -> None:
        calls.append(arguments)
        _convert(*arguments)

    first = conversion.convert(base, "ctranslate2", "int8", lab.run(), converter)
    again = conversion.convert(base, "ctranslate2", "int8", lab.run(), converter)
    assert first == again == lab.root / MODEL / "v2.ctranslate2-int8"
    assert len(calls) == 1
    assert (lab.root / MODEL / "current.ctranslate2-int8").readlink().name == first.name
    manifest = stores.read(first)
    assert manifest is not None
    assert manifest.extra["converted_from"]["digest"] == lab.published_digest(base)
    lab.verdict("v2", staging=False)


def test_a_failed_conversion_publishes_nothing(lab: Lab) -> None:
    def converter(_source, target, *_rest) -> None:
        (target / "half").write_bytes(b"half")
        raise RuntimeError("out of memory")

    base = lab.fetch()
    with pytest.raises(conversion.ConversionFailed, match="out of memory"):
        conversion.convert(base, "ctranslate2", "int8", lab.run(), converter)
    assert not list((lab.root / MODEL).glob("*ctranslate2*"))
    lab.verdict("v2")


def test_a_ready_gguf_needs_no_conversion(lab: Lab) -> None:
    lab.hub.files = lab.files = {"m.gguf": b"GGUF" + bytes(2000)}
    base = lab.fetch()
    assert conversion.convert(base, "llama_cpp", "Q4_K_M", lab.run()) == base
    assert (lab.root / MODEL / "current.llama_cpp-Q4_K_M").readlink().name == "v2"


def test_progress_counts_the_bytes_of_the_weights_that_were_read(lab: Lab) -> None:
    base, run = lab.fetch(), lab.run()
    counted: list[int] = []
    run.reporter.add = counted.append  # type: ignore[method-assign]

    def converter(*arguments) -> None:
        _convert(*arguments)
        arguments[-1](700)
        arguments[-1](300)

    conversion.convert(base, "ctranslate2", "int8", run, converter)
    assert counted == [700, 300]


@pytest.mark.slow
def test_the_small_model_of_the_repository_is_fetched_and_converted_for_real(tmp_path: Path) -> None:
    needs.package("ctranslate2")
    done = loader(
        "fetch", "tiny-codegen", "--store", tmp_path / "s", "--runtime", "ctranslate2", "--precision", "int8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "s" / "tiny-codegen" / "current.ctranslate2-int8"
    assert {"model.bin", "tokenizer.json", "config.json"} <= {p.name for p in folder.iterdir()}


@pytest.mark.slow
def test_a_damaged_conversion_is_found_and_repair_converts_it_again(tmp_path: Path) -> None:
    needs.package("ctranslate2")
    store = ("--store", tmp_path / "s")
    made = loader("fetch", "tiny-codegen", *store, "--runtime", "ctranslate2", "--precision", "int8")
    assert made.returncode == 0, made.stdout + made.stderr
    weights = tmp_path / "s" / "tiny-codegen" / "current.ctranslate2-int8" / "model.bin"
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    assert loader("verify", "tiny-codegen", *store).returncode == 1
    repaired = loader("verify", "tiny-codegen", *store, "--repair")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert loader("verify", "tiny-codegen", *store).returncode == 0
    assert weights.stat().st_size == len(whole)


def test_a_damaged_conversion_is_removed_where_its_tool_is_missing_so_that_the_next_start_makes_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = lab.fetch()
    variant = conversion.convert(base, "ctranslate2", "int8", lab.run(), _convert)
    (variant / "model.bin").chmod(0o644)
    (variant / "model.bin").write_bytes(b"damaged" + bytes(25))
    monkeypatch.setattr(conversion, "is_installed", lambda _runtime: False)
    assert not maintenance.verify(MODEL, lab.run(), None)
    assert maintenance.verify(MODEL, lab.run(), lambda _model, _revision: ())
    assert not variant.exists()
    assert conversion.convert(base, "ctranslate2", "int8", lab.run(), _convert) == variant
    assert maintenance.verify(MODEL, lab.run(), None)
