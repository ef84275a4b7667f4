"""A conversion's peak of memory: a part of one layer, however large the model, and within the loader's limit."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.support import random_codegen
from serving.convert import blocks, convert
from stackfile.catalogue import models
from stackfile.memory import Use, layer_group
from testing import needs
from testing.cgroup import MIB, MemoryGroup, memory_group
from testing.servers.triton import TINY

# The proportions of CodeGen-2B at two fifths of its width, and few layers.
SCALED = {"n_layer": 3, "n_head": 16, "n_embd": 1024, "rotary_dim": 32, "vocab_size": 20480}
# Prints the peak of a process before and during a conversion in MiB, its runtime's modules counted to the first.
PROGRAM = """
import importlib, re, sys
from pathlib import Path
from serving import convert
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
source, target, runtime, precision = sys.argv[1:]
importlib.import_module(convert._MODULES[runtime])
before, read = peak(), []
convert.convert(Path(source), Path(target), runtime, precision, read.append)
print(before, peak(), sum(read))
"""
CONVERSIONS = [("ctranslate2", "int8"), ("ctranslate2", "float32"), ("onnxruntime", "int8"),
               ("llama_cpp", "Q8_0"), ("llama_cpp", "F32")]  # fmt: skip


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_codegen.make(tmp_path_factory.mktemp("scaled") / "model", SCALED)


def measured(source: Path, target: Path, conversion: tuple[str, str], group: MemoryGroup | None = None):
    """Return the peak in MiB before the conversion and during it, and the bytes that it reported as read."""
    needs.package("onnx" if conversion[0] == "onnxruntime" else "ctranslate2")
    target.mkdir()
    argv = [sys.executable, "-c", PROGRAM, str(source), str(target), *conversion]
    run = subprocess.run(
        group.wrapped(argv) if group else argv, capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert run.returncode == 0, (run.returncode, run.stderr[-2000:])
    before, peak, read = map(float, run.stdout.split())
    return before, peak, int(read)


@pytest.mark.parametrize("conversion", CONVERSIONS, ids="-".join)
def test_a_conversion_takes_less_than_a_third_more_than_its_largest_group_of_layers(
    scaled, tmp_path, conversion
):
    before, peak, _ = measured(scaled, tmp_path / "out", conversion)
    assert (peak - before) * MIB <= 1.3 * layer_group(SCALED["n_embd"])


@pytest.mark.parametrize("conversion", CONVERSIONS[::2], ids="-".join)
def test_progress_counts_every_byte_of_the_weights_once(scaled, tmp_path, conversion):
    _, _, read = measured(scaled, tmp_path / "out", conversion)
    file = scaled / "model.safetensors"
    with file.open("rb") as opened:
        header = int.from_bytes(opened.read(8), "little")
    assert read == file.stat().st_size - 8 - header


@pytest.mark.parametrize("conversion", CONVERSIONS, ids="-".join)
def test_the_size_of_the_blocks_changes_no_byte(tmp_path, monkeypatch, conversion):
    needs.package("onnx" if conversion[0] == "onnxruntime" else "ctranslate2")
    found = []
    for size in (2**30, 5000):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        target = tmp_path / str(size)
        target.mkdir()
        convert(TINY, target, *conversion)
        found.append({path.name: path.read_bytes() for path in target.iterdir()})
    assert found[0] == found[1]


@pytest.mark.parametrize("precision", ["int8", "int8_float16", "float16", "float32"])
def test_ctranslate2s_own_optimiser_writes_the_same_bytes(tmp_path, precision):
    needs.package("ctranslate2")
    from ctranslate2.specs.model_spec import ModelSpec

    from serving.convert import vocabulary
    from serving.convert.checkpoint import Checkpoint
    from serving.convert.to_ctranslate2 import parallel_spec

    target = tmp_path / "ours"
    target.mkdir()
    convert(TINY, target, "ctranslate2", precision)
    checkpoint = Checkpoint(TINY)
    spec = parallel_spec(checkpoint)
    spec.register_vocabulary(vocabulary.tokens(checkpoint))
    spec.validate()
    spec.optimize(quantization=precision)
    ModelSpec._serialize(spec, tmp_path / "model.bin")
    assert (target / "model.bin").read_bytes() == (tmp_path / "model.bin").read_bytes()


@pytest.fixture(scope="module")
def codegen_2b(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give random weights of the true shape, 5.2 GiB, for as long as they are used."""
    folder = tmp_path_factory.mktemp("2b")
    yield random_codegen.make(folder / "model", random_codegen.CODEGEN_2B)
    shutil.rmtree(folder)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("conversion", CONVERSIONS[::2], ids="-".join)
def test_codegen_2b_is_converted_within_the_loaders_limit(codegen_2b, tmp_path, conversion):
    use = Use(models()["codegen-2B-multi"], *conversion, context=2048, slots=1)
    assert use.loader <= 1024
    with memory_group(use.loader) as group:
        before, peak, _ = measured(codegen_2b, tmp_path / "out", conversion, group)
        assert group.killed == 0
    shutil.rmtree(tmp_path / "out")
    assert (peak - before) * MIB <= 1.3 * layer_group(random_codegen.CODEGEN_2B["n_embd"])
