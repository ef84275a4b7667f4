"""CodeGen and Qwen2 in plain numpy, written from the papers' formulas: what a conversion is compared with."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


def rms_norm(x: np.ndarray, gamma: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * gamma


def gelu_new(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def angles(length: int, rotary: int, base: float = 10_000.0) -> np.ndarray:
    return np.outer(np.arange(length), base ** (-np.arange(0, rotary, 2) / rotary))


def rotate_pairs(x: np.ndarray, rotary: int) -> np.ndarray:
    """Rotate neighbouring dimensions of ``x [heads, length, size]``, as GPT-J does."""
    angle, turned = angles(x.shape[1], rotary), x.copy()
    even, odd = x[..., 0:rotary:2], x[..., 1:rotary:2]
    turned[..., 0:rotary:2] = even * np.cos(angle) - odd * np.sin(angle)
    turned[..., 1:rotary:2] = odd * np.cos(angle) + even * np.sin(angle)
    return turned


def rotate_halves(x: np.ndarray, base: float) -> np.ndarray:
    """Rotate each dimension with the one half a head away, as GPT-NeoX and Qwen2 do."""
    half = x.shape[-1] // 2
    angle = angles(x.shape[1], x.shape[-1], base)
    first, second = x[..., :half], x[..., half:]
    turned = (first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle))
    return np.concatenate(turned, -1)


def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Causal attention of ``[heads, length, size]``; the result is ``[length, heads * size]``."""
    scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
    scores = np.where(np.tri(query.shape[1], dtype=bool), scores, -np.inf)
    return (np.exp(log_softmax(scores)) @ value).swapaxes(0, 1).reshape(query.shape[1], -1)


def codegen_log_probs(directory: Path, ids: list[int], blocks: int = 4) -> np.ndarray:
    """Return log probabilities ``[length, vocabulary]`` of a CodeGen checkpoint."""
    config = json.loads((directory / "config.json").read_text())
    w = {
        name: tensor.astype(np.float64) for name, tensor in load_file(directory / "model.safetensors").items()
    }
    heads, epsilon = config["n_head"], config["layer_norm_epsilon"]
    x = w["transformer.wte.weight"][ids]
    for layer in range(config["n_layer"]):
        p = f"transformer.h.{layer}."
        h = layer_norm(x, w[p + "ln_1.weight"], w[p + "ln_1.bias"], epsilon)
        fused = (h @ w[p + "attn.qkv_proj.weight"].T).reshape(len(ids), blocks, 3, heads // blocks, -1)
        query, value, key = (
            fused[:, :, part].reshape(len(ids), heads, -1).swapaxes(0, 1) for part in range(3)
        )
        query, key = (rotate_pairs(each, config["rotary_dim"]) for each in (query, key))
        attention = attend(query, key, value) @ w[p + "attn.out_proj.weight"].T
        inner = gelu_new(h @ w[p + "mlp.fc_in.weight"].T + w[p + "mlp.fc_in.bias"])
        x = x + attention + inner @ w[p + "mlp.fc_out.weight"].T + w[p + "mlp.fc_out.bias"]
    x = layer_norm(x, w["transformer.ln_f.weight"], w["transformer.ln_f.bias"], epsilon)
    return log_softmax(x @ w["lm_head.weight"].T + w["lm_head.bias"])


def regret(directory: Path, prompt: list[int], made: list[int]) -> float:
    """Return by how much, in log probability, the likeliest token was better than the one made, at worst.

    0 is greedy decoding in exact arithmetic. 8-bit weights and the processor's way to add them up cost tiny-codegen less
    than 0.1 a token; a token that has nothing to do with the prompt costs 5 and more.
    """
    found = codegen_log_probs(directory, [*prompt, *made])[len(prompt) - 1 : -1]
    return float((found.max(-1) - found[np.arange(len(made)), made]).max())


def qwen2_log_probs(directory: Path, ids: list[int]) -> np.ndarray:
    """Return log probabilities ``[length, vocabulary]`` of a Qwen2 checkpoint with tied embeddings."""
    config = json.loads((directory / "config.json").read_text())
    w = {
        name: tensor.astype(np.float64) for name, tensor in load_file(directory / "model.safetensors").items()
    }
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    epsilon, base = config["rms_norm_eps"], config["rope_theta"]
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        h = rms_norm(x, w[p + "input_layernorm.weight"], epsilon)
        query, key, value = (
            (h @ w[f"{p}self_attn.{n}_proj.weight"].T + w[f"{p}self_attn.{n}_proj.bias"])
            .reshape(len(ids), count, -1)
            .swapaxes(0, 1)
            for n, count in (("q", heads), ("k", shared), ("v", shared))
        )
        key, value = (np.repeat(each, heads // shared, 0) for each in (rotate_halves(key, base), value))
        x = x + attend(rotate_halves(query, base), key, value) @ w[p + "self_attn.o_proj.weight"].T
        h = rms_norm(x, w[p + "post_attention_layernorm.weight"], epsilon)
        gate, up = (h @ w[f"{p}mlp.{n}_proj.weight"].T for n in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[p + "mlp.down_proj.weight"].T
    return log_softmax(rms_norm(x, w["model.norm.weight"], epsilon) @ w["model.embed_tokens.weight"].T)


def write_qwen2(directory: Path, tokenizer: Path) -> None:
    """Write a small random Qwen2 checkpoint with grouped attention and tied embeddings."""
    width, inner, heads, shared, layers, vocabulary = 64, 96, 4, 2, 2, 2048
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    tensors = {"model.embed_tokens.weight": normal(vocabulary, width), "model.norm.weight": 1 + normal(width)}
    for layer in range(layers):
        p = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{p}{name}.weight"] = 1 + normal(width)
        for name, rows in (("q", width), ("k", width // heads * shared), ("v", width // heads * shared)):
            tensors[f"{p}self_attn.{name}_proj.weight"] = normal(rows, width)
            tensors[f"{p}self_attn.{name}_proj.bias"] = normal(rows)
        tensors[f"{p}self_attn.o_proj.weight"] = normal(width, width)
        tensors[f"{p}mlp.gate_proj.weight"] = normal(inner, width)
        tensors[f"{p}mlp.up_proj.weight"] = normal(inner, width)
        tensors[f"{p}mlp.down_proj.weight"] = normal(width, inner)
    save_file(tensors, directory / "model.safetensors")
    config = {
        "architectures": ["Qwen2ForCausalLM"], "vocab_size": vocabulary, "eos_token_id": [0, 1], "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": shared,
        "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "intermediate_size": inner, "tie_word_embeddings": True,
    }  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_bytes(tokenizer.read_bytes())
