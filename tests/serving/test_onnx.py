"""The ONNX graph and its cache: what it computes, and that a row's numbers depend on no other row."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from serving.backend.runtimes import Options
from serving.convert import ConversionError, convert
from serving.convert.layouts import split_codegen
from testing import needs
from testing.servers.triton import TINY
from tests.serving import reference

PROMPT = [315, 568, 76, 324, 8, 841, 467, 355, 358, 449, 88, 276, 662]


@pytest.fixture(autouse=True, scope="module")
def runtime() -> None:
    needs.package("onnxruntime")


def converted(source: Path, target: Path) -> Path:
    target.mkdir()
    convert(source, target, "onnxruntime", "int8")
    return target


def model_of(directory: Path, slots: int = 4, context_length: int = 2048, threads: int = 1):
    from serving.backend.runtimes.onnx_model import OnnxModel

    return OnnxModel(Options(directory, "int8", context_length, 16, slots, threads, "cpu", 0, print), slots)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return converted(TINY, tmp_path_factory.mktemp("onnx") / "model")


def log_probs(directory: Path, ids: list[int]) -> np.ndarray:
    """Return log probabilities ``[length, vocabulary]``: the first token is read, the others follow one by one."""
    model = model_of(directory, slots=1)
    found = [model.read(0, ids[:1], 0).copy()]
    found += [model.advance([token], [index])[0].copy() for index, token in enumerate(ids) if index]
    return reference.log_softmax(np.array(found))


def test_the_graph_computes_the_log_probabilities_of_codegen(tiny):
    expected = reference.codegen_log_probs(TINY, PROMPT)
    found = log_probs(tiny, PROMPT)
    assert np.abs(found - expected).mean() < 0.15
    # Where the best two are as good as equal, 8-bit weights may choose the other.
    best = np.sort(expected, -1)[:, -2:]
    sure = best[:, 1] - best[:, 0] > 0.5
    assert sure.sum() > 3
    assert np.array_equal(found.argmax(-1)[sure], expected.argmax(-1)[sure])


def test_a_prompt_read_in_pieces_means_the_same_as_read_at_once(tiny):
    ids = (PROMPT * 30)[:300]
    model = model_of(tiny)
    whole = model.read(0, ids, 0).copy()
    for start in (0, 128, 256):
        pieces = model.read(1, ids[start : start + 128], start)
    assert np.abs(reference.log_softmax(whole) - reference.log_softmax(pieces)).max() < 0.3
    expected = reference.codegen_log_probs(TINY, ids)[-1]
    assert np.abs(reference.log_softmax(pieces) - expected).mean() < 0.15


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_any_length_have_the_same_logits_to_the_last_bit_alone_and_together(tiny, threads):
    model = model_of(tiny, slots=7, threads=threads)
    prompts = [(PROMPT * 20)[: 3 + 29 * index] for index in range(7)]
    alone = []
    for prompt in prompts:
        model.read(0, prompt, 0)
        alone.append([model.advance([token], [len(prompt) + n])[0].copy() for n, token in enumerate((5, 9))])
    for slot, prompt in enumerate(prompts):
        model.read(slot, prompt, 0)
    for n, token in enumerate((5, 9)):
        together = model.advance([token] * 7, [len(prompt) + n for prompt in prompts])
        for row, each in enumerate(alone):
            assert np.array_equal(together[row], each[n])


def test_a_row_that_moves_to_another_slot_goes_on_as_it_was(tiny):
    model = model_of(tiny)
    model.read(0, PROMPT, 0)
    expected = model.advance([5], [len(PROMPT)])[0].copy()
    model.read(3, PROMPT, 0)
    model.read(0, PROMPT[::-1], 0)
    model.move(3, 0, len(PROMPT))
    assert np.array_equal(model.advance([5], [len(PROMPT)])[0], expected)


def test_a_row_may_fill_the_context_to_its_last_token(tiny):
    model = model_of(tiny, context_length=40)
    model.read(0, (PROMPT * 3)[:39], 0)
    ids = [*(PROMPT * 3)[:39], 5]
    found = reference.log_softmax(model.advance([5], [39])[0])
    assert np.abs(found - reference.codegen_log_probs(TINY, ids)[-1]).mean() < 0.15


def test_gptj_is_converted_like_the_codegen_it_equals(tiny, tmp_path):
    source = copy_of_tiny(tmp_path, architectures=["GPTJForCausalLM"])
    tensors = load_file(source / "model.safetensors")
    for layer in range(4):
        fused = tensors.pop(f"transformer.h.{layer}.attn.qkv_proj.weight")
        for name, part in zip("qkv", split_codegen(fused.shape, 4), strict=True):
            tensors[f"transformer.h.{layer}.attn.{name}_proj.weight"] = fused[part]
    save_file(tensors, source / "model.safetensors")
    assert np.array_equal(log_probs(converted(source, tmp_path / "gptj"), PROMPT), log_probs(tiny, PROMPT))


def test_the_same_model_gives_the_same_files(tiny, tmp_path):
    again = converted(TINY, tmp_path / "again")
    assert {path.name for path in again.iterdir()} == {path.name for path in tiny.iterdir()}
    for path in again.iterdir():
        assert path.read_bytes() == (tiny / path.name).read_bytes()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "no ONNX conversion for Qwen2ForCausalLM.*ctranslate2"),
        ({"activation_function": "gelu"}, "no ONNX conversion for activation 'gelu': use the ctranslate2"),
        ({"rotary_dim": 24}, "rotary_dim 24 is not a multiple of 16.*use the ctranslate2"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_the_remedy(tmp_path, config, message):
    with pytest.raises(ConversionError, match=message):
        converted(copy_of_tiny(tmp_path, **config), tmp_path / "target")


def test_a_context_longer_than_the_models_is_refused(tiny):
    with pytest.raises(ValueError, match="context_length 4096 exceeds the model's 2048"):
        model_of(tiny, context_length=4096)


def copy_of_tiny(tmp_path: Path, **config: object) -> Path:
    source = tmp_path / "source"
    shutil.copytree(TINY, source, ignore=shutil.ignore_patterns("*.md", "LICENSE*", "make"))
    document = json.loads((source / "config.json").read_text()) | config
    (source / "config.json").write_text(json.dumps(document))
    return source
