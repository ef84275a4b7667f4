"""Writes a CTranslate2 model folder; weights are read when CTranslate2 writes them.

``parallel_spec`` and ``qwen2_spec`` describe the supported architectures to CTranslate2.
"""

import json
from pathlib import Path
from typing import Any

from ctranslate2.specs import common_spec, transformer_spec

from serving.convert import ctranslate2_file, vocabulary
from serving.convert.blocks import stacked
from serving.convert.checkpoint import Checkpoint
from serving.convert.ctranslate2_file import LazyVariable
from serving.convert.errors import ConversionError
from serving.convert.layouts import ParallelModel, parallel_model

_ACTIVATIONS = {"gelu": common_spec.Activation.GELU, "gelu_new": common_spec.Activation.GELUTanh}


def parallel_spec(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 -- ctranslate2 ships no types
    """Return the description of a CodeGen or GPT-J model. Raises ``ConversionError``."""
    model = parallel_model(checkpoint)
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        model.layers,
        model.heads,
        pre_norm=True,
        activation=_ACTIVATIONS[model.activation],
        rotary_dim=model.rotary,
        rotary_interleave=False,
        parallel_residual=True,
        shared_layer_norm=True,
    )
    spec.decoder.scale_embeddings = False
    spec.decoder.embeddings.weight = LazyVariable(model.source("transformer.wte.weight"))
    _norm(spec.decoder.layer_norm, model.source, "transformer.ln_f")
    for index, layer in enumerate(spec.decoder.layer):
        _parallel_layer(layer, model, index)
    _linear(spec.decoder.projection, model.source, "lm_head")
    return spec


def _parallel_layer(layer: Any, model: ParallelModel, index: int) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
    prefix = f"transformer.h.{index}."
    _norm(layer.shared_layer_norm, model.source, prefix + "ln_1")
    layer.self_attention.linear[0].weight = LazyVariable(model.attention(index))
    layer.self_attention.linear[1].weight = LazyVariable(model.block(index, "attn.out_proj.weight"))
    _linear(layer.ffn.linear_0, model.source, prefix + "mlp.fc_in")
    _linear(layer.ffn.linear_1, model.source, prefix + "mlp.fc_out")


def _norm(spec: Any, source: Any, name: str) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
    spec.gamma, spec.beta = LazyVariable(source(name + ".weight")), LazyVariable(source(name + ".bias"))


def _linear(spec: Any, source: Any, name: str) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
    spec.weight, spec.bias = LazyVariable(source(name + ".weight")), LazyVariable(source(name + ".bias"))


def qwen2_spec(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 -- ctranslate2 ships no types
    """Return the description of a Qwen2 model, such as Qwen2.5-Coder.

    Raises ``ConversionError`` for RoPE scaling and sliding windows.
    """
    if checkpoint.config.get("rope_scaling") or checkpoint.config.get("use_sliding_window"):
        raise ConversionError(
            "rope_scaling and sliding windows are not supported: use a revision without them"
        )
    heads, shared = checkpoint.number("num_attention_heads"), checkpoint.number("num_key_value_heads")
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        checkpoint.number("num_hidden_layers"),
        heads,
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=float(checkpoint.config.get("rope_theta", 10_000)),
        num_heads_kv=None if shared == heads else shared,
    )
    spec.decoder.scale_embeddings = False
    embeddings = LazyVariable(checkpoint.source("model.embed_tokens.weight"))
    spec.decoder.embeddings.weight = embeddings
    spec.decoder.layer_norm.gamma = LazyVariable(checkpoint.source("model.norm.weight"))
    for index, layer in enumerate(spec.decoder.layer):
        _qwen2_layer(layer, checkpoint, f"model.layers.{index}.")
    tied = not checkpoint.has("lm_head.weight")
    spec.decoder.projection.weight = embeddings if tied else LazyVariable(checkpoint.source("lm_head.weight"))
    return spec


def _qwen2_layer(layer: Any, checkpoint: Checkpoint, prefix: str) -> None:  # noqa: ANN401 -- ctranslate2 ships no types
    def weight(name: str) -> LazyVariable:
        return LazyVariable(checkpoint.source(prefix + name))

    attention, feed = layer.self_attention, layer.ffn
    attention.layer_norm.gamma = weight("input_layernorm.weight")
    feed.layer_norm.gamma = weight("post_attention_layernorm.weight")
    names = [f"{prefix}self_attn.{name}_proj" for name in "qkv"]
    attention.linear[0].weight = LazyVariable(
        stacked([checkpoint.source(name + ".weight") for name in names])
    )
    attention.linear[0].bias = LazyVariable(stacked([checkpoint.source(name + ".bias") for name in names]))
    attention.linear[1].weight = weight("self_attn.o_proj.weight")
    feed.linear_0.weight = weight("mlp.gate_proj.weight")
    feed.linear_0_noact.weight = weight("mlp.up_proj.weight")
    feed.linear_1.weight = weight("mlp.down_proj.weight")


_BUILDERS = {
    "CodeGenForCausalLM": parallel_spec,
    "GPTJForCausalLM": parallel_spec,
    "Qwen2ForCausalLM": qwen2_spec,
}


def convert(checkpoint: Checkpoint, target_dir: Path, precision: str) -> None:
    """Convert ``checkpoint`` into ``target_dir`` at ``precision``; see ``serving.convert.convert``.

    Raises ``ConversionError``.
    """
    builder = _BUILDERS.get(checkpoint.architecture)
    if builder is None:
        raise ConversionError(
            f"no CTranslate2 conversion for {checkpoint.architecture} (supported: {', '.join(_BUILDERS)}): "
            "serve a ready GGUF file of the model with the llama_cpp runtime"
        )
    spec = builder(checkpoint)
    spec.register_vocabulary(vocabulary.tokens(checkpoint))
    spec.validate()
    ctranslate2_file.quantise(spec, precision)
    # `save` writes the vocabulary beside the model, which it is kept from writing itself.
    spec._serialize = lambda path: ctranslate2_file.write(spec, Path(path))
    spec.save(str(target_dir))
    _write_config(checkpoint, target_dir)


def _write_config(checkpoint: Checkpoint, target_dir: Path) -> None:
    """Write one ``config.json`` for CTranslate2 and for readers of the model's original configuration.

    Both expect this name; their keys do not collide, and each reader ignores the other keys.
    """
    end = vocabulary.tokens(checkpoint)[vocabulary.eos_id(checkpoint)]
    epsilon = checkpoint.config.get("layer_norm_epsilon", checkpoint.config.get("rms_norm_eps", 1e-5))
    own = {"bos_token": end, "eos_token": end, "unk_token": end, "layer_norm_epsilon": epsilon}
    document = json.dumps(checkpoint.config | own, indent=2, sort_keys=True, ensure_ascii=False)
    (target_dir / "config.json").write_text(document + "\n", "utf-8")
