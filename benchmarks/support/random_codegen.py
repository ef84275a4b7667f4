"""A randomly initialised CodeGen checkpoint, which runs at the speed of a trained one."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TOKENIZER = Path(__file__).resolve().parents[2] / "models" / "tiny-codegen" / "tokenizer.json"
CODEGEN_350M = {"n_layer": 20, "n_head": 16, "n_embd": 1024, "rotary_dim": 32, "vocab_size": 51200}
TINY = {"n_layer": 4, "n_head": 4, "n_embd": 192, "rotary_dim": 32, "vocab_size": 2048}


def make(directory: Path, sizes: dict[str, int] = CODEGEN_350M) -> Path:
    """Write a float16 checkpoint with a tokenizer to ``directory``, unless it exists; return the folder."""
    if (directory / "config.json").exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    save_file(_tensors(sizes), directory / "model.safetensors")
    shutil.copyfile(TOKENIZER, directory / "tokenizer.json")
    config = {
        "architectures": ["CodeGenForCausalLM"], "model_type": "codegen", "activation_function": "gelu_new",
        "n_positions": 2048, "n_ctx": 2048, "bos_token_id": 0, "eos_token_id": 0, "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": False, "torch_dtype": "float16", **sizes,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def _tensors(sizes: dict[str, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    width, vocabulary = sizes["n_embd"], sizes["vocab_size"]

    def normal(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape, dtype=np.float32) * 0.02).astype(np.float16)

    def linear(name: str, rows: int, columns: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": normal(rows, columns), f"{name}.bias": np.zeros(rows, np.float16)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": np.ones(width, np.float16), f"{name}.bias": np.zeros(width, np.float16)}

    tensors = {"transformer.wte.weight": normal(vocabulary, width), **norm("transformer.ln_f")}
    tensors |= linear("lm_head", vocabulary, width)
    # The end-of-text token is never the likeliest, so that every run generates as many tokens as requested.
    tensors["lm_head.bias"][0] = -100
    for layer in range(sizes["n_layer"]):
        p = f"transformer.h.{layer}."
        tensors |= norm(p + "ln_1")
        tensors[p + "attn.qkv_proj.weight"] = normal(3 * width, width)
        tensors[p + "attn.out_proj.weight"] = normal(width, width)
        tensors |= linear(p + "mlp.fc_in", 4 * width, width) | linear(p + "mlp.fc_out", width, 4 * width)
    return tensors
