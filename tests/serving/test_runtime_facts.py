"""catalogue/runtimes.yaml against the libraries: the pinned llama.cpp is asked for each architecture."""

import re
import subprocess
import sys

import pytest

from serving.convert import to_ctranslate2, to_gguf, to_onnx
from stackfile.catalogue import runtimes
from testing import needs

# Architectures of the library that generate no text: encoders, an encoder-decoder, speech, diffusion, images; and one
# that it knows by name only.
NO_GENERATORS = {
    "bert", "clip", "dream", "eurobert", "gemma-embedding", "gptj", "jina-bert-v2", "jina-bert-v3", "llada", "llada-moe",
    "llama-embed", "modern-bert", "neo-bert", "nomic-bert", "nomic-bert-moe", "rnd1", "t5", "t5encoder",
    "wavtokenizer-dec",
}  # fmt: skip
# A file that has an architecture's name and nothing else: llama.cpp refuses it for what is missing, or for the name.
LOAD = """
import sys
from pathlib import Path
import gguf, xllamacpp

for name in sys.argv[2:]:
    file = Path(sys.argv[1]) / f"{name}.gguf"
    writer = gguf.GGUFWriter(file, name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_gpu_layers = 0
    try:
        xllamacpp.Server(params)
    except RuntimeError:
        continue
    sys.exit(f"{name}: an empty file was served")
"""


def reasons(folder, *names: str) -> dict[str, str]:
    """Return why llama.cpp refuses an empty file of each architecture."""
    for package in ("gguf", "xllamacpp"):
        needs.package(package)
    command = [sys.executable, "-c", LOAD, str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found = {}
    for part in (done.stdout + done.stderr).split("loading model '")[1:]:
        name = re.match(r".*/(.+)\.gguf'", part).group(1)
        found[name] = re.search(r"error loading model: (.+)", part).group(1)
    return found


def test_llama_cpp_knows_every_architecture_that_it_is_said_to_read(tmp_path):
    names = runtimes()["llama_cpp"].reads
    found = reasons(tmp_path, *names)
    assert set(found) == set(names)
    assert {name: why for name, why in found.items() if "key not found in model" not in why} == {}


def test_llama_cpp_refuses_other_architectures_by_name(tmp_path):
    found = reasons(tmp_path, "nonsense", "gptj", "clip")
    assert "unknown model architecture" in found["nonsense"]
    assert "unsupported model architecture" in found["gptj"]
    assert "cannot be used as main model" in found["clip"]


def test_no_architecture_of_the_library_is_forgotten():
    gguf = needs.package("gguf")
    assert set(gguf.MODEL_ARCH_NAMES.values()) - set(runtimes()["llama_cpp"].reads) == NO_GENERATORS


def test_the_file_types_are_those_of_the_library():
    gguf = needs.package("gguf")
    names = {kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    assert set(runtimes()["llama_cpp"].file_types) == names - {"GUESSED"}


@pytest.mark.parametrize(
    ("runtime", "converted"),
    [
        ("ctranslate2", to_ctranslate2._BUILDERS),
        ("llama_cpp", to_gguf._ARCHITECTURES),
        ("onnxruntime", to_onnx._ARCHITECTURES),
    ],
)
def test_a_runtime_converts_what_its_converter_does(runtime, converted):
    names = {name.removesuffix("ForCausalLM").lower() for name in converted}
    assert set(runtimes()[runtime].converts) == names
