"""A randomly initialised CodeGen checkpoint, which runs at the speed of a trained one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TOKENIZER = Path(__file__).resolve().parents[2] / "models" / "tiny-codegen" / "tokenizer.json"
CODEGEN_350M = {"n_layer": 20, "n_head": 16, "n_embd": 1024, "rotary_dim": 32, "vocab_size": 51200}
CODEGEN_2B = {"n_layer": 32, "n_head": 32, "n_embd": 2560, "rotary_dim": 64, "vocab_size": 51200}
TINY = {"n_layer": 4, "n_head": 4, "n_embd": 192, "rotary_dim": 32, "vocab_size": 2048}


def make(directory: Path, sizes: dict[str, int] = CODEGEN_350M) -> Path:
    """Write a float16 checkpoint with a tokenizer to ``directory``, unless it exists; return the folder."""
    if (directory / "config.json").exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "model.safetensors", sizes)
    shutil.copyfile(TOKENIZER, directory / "tokenizer.json")
    config = {
        "architectures": ["CodeGenForCausalLM"], "model_type": "codegen", "activation_function": "gelu_new",
        "n_positions": 2048, "n_ctx": 2048, "bos_token_id": 0, "eos_token_id": 0, "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": False, "torch_dtype": "float16", **sizes,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def _write(path: Path, sizes: dict[str, int]) -> None:
    """Write the tensors one after the other, so that a large model needs little memory here."""
    header, end = {}, 0
    for name, shape in _shapes(sizes):
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in _shapes(sizes):
            _values(name, shape, random).tofile(file)


def _values(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if len(shape) == 2:
        return (random.standard_normal(shape, dtype=np.float32) * 0.02).astype(np.float16)
    values = np.full(shape, "ln_" in name and name.endswith("weight"), np.float16)
    if name == "lm_head.bias":
        # The end-of-text token is never the likeliest: every run generates as many tokens as requested.
        values[0] = -100
    return values


def _shapes(sizes: dict[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    width, vocabulary = sizes["n_embd"], sizes["vocab_size"]

    def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (rows, columns)
        yield f"{name}.bias", (rows,)

    def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)

    yield "transformer.wte.weight", (vocabulary, width)
    yield from norm("transformer.ln_f")
    yield from linear("lm_head", vocabulary, width)
    for layer in range(sizes["n_layer"]):
        p = f"transformer.h.{layer}."
        yield from norm(p + "ln_1")
        yield p + "attn.qkv_proj.weight", (3 * width, width)
        yield p + "attn.out_proj.weight", (width, width)
        yield from linear(p + "mlp.fc_in", 4 * width, width)
        yield from linear(p + "mlp.fc_out", width, 4 * width)
