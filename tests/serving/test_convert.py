"""Conversion: every runtime computes what the checkpoint means."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from serving.convert import ConversionError, convert, pickled
from serving.convert.layouts import split_codegen
from testing import needs
from testing.servers.triton import TINY
from tests.serving import reference

PROMPT = [315, 568, 76, 324, 8, 841, 467, 355, 358, 449, 88, 276, 662]


@pytest.fixture(autouse=True, scope="module")
def runtime() -> None:
    needs.package("ctranslate2")


def ctranslate2_log_probs(directory: Path, ids: list[int]) -> np.ndarray:
    import ctranslate2

    generator = ctranslate2.Generator(str(directory), compute_type="float32", intra_threads=1)
    tokens = json.loads((directory / "vocabulary.json").read_text())
    view = generator.forward_batch([[tokens[token] for token in ids]], return_log_probs=True)
    return np.array(view)[0]


def converted(source: Path, tmp_path: Path, runtime: str = "ctranslate2", precision: str = "float32") -> Path:
    target = tmp_path / f"{runtime}-{precision}"
    target.mkdir()
    convert(source, target, runtime, precision)
    return target


def copy_of_tiny(tmp_path: Path, **config: object) -> Path:
    source = tmp_path / "source"
    shutil.copytree(TINY, source, ignore=shutil.ignore_patterns("*.md", "LICENSE*", "make"))
    document = json.loads((source / "config.json").read_text()) | config
    (source / "config.json").write_text(json.dumps(document))
    return source


def test_ctranslate2_computes_the_log_probabilities_of_codegen(tmp_path):
    expected = reference.codegen_log_probs(TINY, PROMPT)
    found = ctranslate2_log_probs(converted(TINY, tmp_path), PROMPT)
    assert np.abs(found - expected).max() < 1e-3


def test_int8_stays_close_to_the_original(tmp_path):
    expected = reference.codegen_log_probs(TINY, PROMPT)
    generator_dir = converted(TINY, tmp_path, precision="int8")
    found = ctranslate2_log_probs(generator_dir, PROMPT)
    assert np.abs(found - expected).mean() < 0.15
    assert (generator_dir / "model.bin").stat().st_size < 3_000_000


def test_codegen2_in_eight_blocks_is_told_by_its_head_dim(tmp_path):
    source = copy_of_tiny(tmp_path, n_head=8, head_dim=128, rotary_dim=24)
    expected = reference.codegen_log_probs(source, PROMPT, blocks=8)
    assert np.abs(ctranslate2_log_probs(converted(source, tmp_path), PROMPT) - expected).max() < 1e-3


def test_gptj_is_converted_like_the_codegen_it_equals(tmp_path):
    source = copy_of_tiny(tmp_path, architectures=["GPTJForCausalLM"])
    tensors = load_file(source / "model.safetensors")
    for layer in range(4):
        fused = tensors.pop(f"transformer.h.{layer}.attn.qkv_proj.weight")
        for name, part in zip("qkv", split_codegen(fused.shape, 4), strict=True):
            tensors[f"transformer.h.{layer}.attn.{name}_proj.weight"] = fused[part]
    save_file(tensors, source / "model.safetensors")
    expected = reference.codegen_log_probs(TINY, PROMPT)
    assert np.abs(ctranslate2_log_probs(converted(source, tmp_path), PROMPT) - expected).max() < 1e-3


def test_qwen2_with_grouped_attention_and_tied_embeddings_is_converted(tmp_path):
    source = tmp_path / "qwen2"
    source.mkdir()
    reference.write_qwen2(source, TINY / "tokenizer.json")
    expected = reference.qwen2_log_probs(source, PROMPT)
    target = converted(source, tmp_path)
    assert np.abs(ctranslate2_log_probs(target, PROMPT) - expected).max() < 1e-3
    assert json.loads((target / "config.json").read_text())["eos_token"] == "<|endoftext|>"


def test_a_sharded_checkpoint_gives_the_same_files_as_a_whole_one(tmp_path):
    source = copy_of_tiny(tmp_path)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, source / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    whole = tmp_path / "whole"
    whole.mkdir()
    convert(TINY, whole, "ctranslate2", "int8")
    parts = converted(source, tmp_path, precision="int8")
    assert (parts / "model.bin").read_bytes() == (whole / "model.bin").read_bytes()


def test_bfloat16_weights_are_widened_exactly(tmp_path):
    values = np.array([1.0, -2.5, 3.0e-5], np.float32)
    raw = (values.view(np.uint32) >> 16).astype(np.uint16)
    header = json.dumps({"x": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    header += b" " * (-len(header) % 8)
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw.tobytes())
    (tmp_path / "config.json").write_text("{}")
    from serving.convert.checkpoint import Checkpoint

    expected = (raw.astype(np.uint32) << 16).view(np.float32)
    assert Checkpoint(tmp_path).source("x").load().tolist() == expected.tolist()


def test_a_converted_directory_has_the_tokenizer_and_the_models_own_facts(tmp_path):
    source = copy_of_tiny(tmp_path)
    (source / "chat_template.jinja").write_text("{{ messages }}")
    target = converted(source, tmp_path, precision="int8")
    config = json.loads((target / "config.json").read_text())
    assert config["architectures"] == ["CodeGenForCausalLM"]
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (target / name).read_bytes() == (source / name).read_bytes()


def test_a_head_wider_than_the_tokenizer_has_a_name_for_every_id(tmp_path):
    source = copy_of_tiny(tmp_path, vocab_size=2112)
    tensors = load_file(source / "model.safetensors")
    for name in ("transformer.wte.weight", "lm_head.weight", "lm_head.bias"):
        tensor = tensors[name]
        tensors[name] = np.concatenate([tensor, np.zeros((64, *tensor.shape[1:]), tensor.dtype)])
    save_file(tensors, source / "model.safetensors")
    tokens = json.loads((converted(source, tmp_path) / "vocabulary.json").read_text())
    assert len(set(tokens)) == 2112


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "ready GGUF file"),
        ({"activation_function": "relu"}, "activation_function"),
        ({"n_layer": 5}, "no tensor transformer.h.4"),
        ({"n_head": 7}, "not a multiple of n_head"),
        ({"vocab_size": 100}, "belongs to another model"),
        ({"eos_token_id": None}, "no eos_token_id"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_remedy(tmp_path, change, message):
    with pytest.raises(ConversionError, match=message):
        converted(copy_of_tiny(tmp_path, **change), tmp_path)


def test_a_truncated_file_is_refused_with_the_remedy(tmp_path):
    source = copy_of_tiny(tmp_path)
    whole = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConversionError, match="verify and fetch it again"):
        converted(source, tmp_path)


def test_a_folder_without_weights_is_refused_with_the_remedy(tmp_path):
    source = copy_of_tiny(tmp_path)
    (source / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match="choose a revision of the model with safetensors"):
        converted(source, tmp_path)


def test_the_environment_that_is_not_there_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv(pickled.VARIABLE, str(tmp_path / "python"))
    with pytest.raises(ConversionError, match=r"not there.*scripts/bootstrap .*torch\.txt.*loader-torch"):
        pickled.interpreter()
    monkeypatch.delenv(pickled.VARIABLE)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "serving"))
    with pytest.raises(ConversionError, match=str(tmp_path / "torch" / "bin" / "python")):
        pickled.interpreter()
    source = copy_of_tiny(tmp_path)
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(ConversionError, match="not there"):
        converted(source, tmp_path)


def test_unknown_runtimes_and_precisions_are_refused_with_the_choices(tmp_path):
    with pytest.raises(ConversionError, match="ctranslate2, llama_cpp"):
        convert(TINY, tmp_path, "onnx", "int8")
    with pytest.raises(ConversionError, match="Q8_0, F16, F32"):
        convert(TINY, tmp_path, "llama_cpp", "int8")
    (tmp_path / "something").touch()
    with pytest.raises(ConversionError, match="empty folder"):
        convert(TINY, tmp_path, "ctranslate2", "int8")
