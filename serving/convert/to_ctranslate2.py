"""Write a CTranslate2 model directory."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import common_spec, transformer_spec
from ctranslate2.specs.model_spec import Variable

from serving.convert import vocabulary
from serving.convert.checkpoint import Array, Checkpoint
from serving.convert.errors import ConversionError
from serving.convert.layouts import ParallelModel, Source, parallel_model

_ACTIVATIONS = {"gelu": common_spec.Activation.GELU, "gelu_new": common_spec.Activation.GELUTanh}


class LazyVariable(Variable):  # type: ignore[misc]  # ctranslate2 ships no types
    """A weight that is read when CTranslate2's writer quantises or saves it, and forgotten after."""

    def __init__(self, source: Source, dtype: str = "float32") -> None:
        self._source = source
        self._dtype = dtype

    @property
    def shape(self) -> list[int]:
        """The tensor's shape, known without reading it."""
        return list(self._source.shape)

    @property
    def dtype(self) -> str:
        """The type the tensor will have when it is saved."""
        return self._dtype

    def numpy(self) -> Array:
        """Read the tensor."""
        return np.ascontiguousarray(self._source.load().astype(self._dtype, copy=False))

    def num_bytes(self) -> int:
        """Return the size in the file."""
        return int(np.prod(self.shape)) * np.dtype(self._dtype).itemsize

    def to_bytes(self) -> bytes:
        """Return the bytes for the file."""
        return self.numpy().tobytes()

    def _to(self, dtype: str) -> "LazyVariable":
        return LazyVariable(self._source, dtype)

    def _equal(self, other: Variable) -> bool:
        return self is other


def convert(source_dir: Path, target_dir: Path, precision: str) -> None:
    """Convert ``source_dir`` into ``target_dir`` at ``precision``; see ``serving.convert.convert``."""
    checkpoint = Checkpoint(source_dir)
    builder = _BUILDERS.get(checkpoint.architecture)
    if builder is None:
        raise ConversionError(
            f"no CTranslate2 conversion for {checkpoint.architecture}: supported are {', '.join(_BUILDERS)}; "
            "for another model serve a ready GGUF file with the llama_cpp runtime"
        )
    spec = builder(checkpoint)
    spec.register_vocabulary(vocabulary.tokens(checkpoint))
    spec.validate()
    spec.optimize(quantization=precision)
    spec.save(str(target_dir))
    _write_config(checkpoint, target_dir)
    shutil.copyfile(source_dir / "tokenizer.json", target_dir / "tokenizer.json")


def _write_config(checkpoint: Checkpoint, target_dir: Path) -> None:
    """Write one ``config.json`` for both readers: CTranslate2 and those who want the model's own facts.

    Both insist on that name; their keys do not collide, and each ignores the other's.
    """
    end = vocabulary.tokens(checkpoint)[vocabulary.eos_id(checkpoint)]
    epsilon = checkpoint.config.get("layer_norm_epsilon", checkpoint.config.get("rms_norm_eps", 1e-5))
    own = {"bos_token": end, "eos_token": end, "unk_token": end, "layer_norm_epsilon": epsilon}
    document = json.dumps(checkpoint.config | own, indent=2, sort_keys=True, ensure_ascii=False)
    (target_dir / "config.json").write_text(document + "\n", "utf-8")


def _parallel(checkpoint: Checkpoint) -> Any:  # noqa: ANN401 -- ctranslate2 ships no types
    """Describe a CodeGen or GPT-J model."""
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


_BUILDERS = {"CodeGenForCausalLM": _parallel, "GPTJForCausalLM": _parallel}
