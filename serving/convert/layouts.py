"""The location of each architecture's weights, and the order of rows that all runtimes share.

CodeGen, GPT-J and Phi are one architecture in three layouts: attention and MLP in parallel behind one layer
norm, partial rotary positions, biased head. They differ in the fusion of the attention projections and in the
order of the rotary dimensions (GPT-J: interleaved pairs; Phi and GPT-NeoX: two halves).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.convert.blocks import Source, picked, stacked
from serving.convert.checkpoint import Checkpoint
from serving.convert.errors import ConversionError

ACTIVATIONS = ("gelu_new", "gelu")


@dataclass(frozen=True, slots=True)
class ParallelModel:
    """The sizes of a CodeGen or GPT-J model, and its weights in the common order."""

    checkpoint: Checkpoint
    layers: int
    heads: int
    width: int
    inner: int
    rotary: int
    context: int
    activation: str
    epsilon: float

    def source(self, name: str) -> Source:
        """Return a tensor unchanged."""
        return self.checkpoint.source(name)

    def block(self, layer: int, name: str) -> Source:
        """Return a tensor of one block unchanged, such as ``mlp.fc_in.weight``."""
        return self.source(f"transformer.h.{layer}.{name}")

    def attention(self, layer: int) -> Source:
        """Return query, key and value stacked, ``[3 * width, width]``, with rotary rows as two halves."""
        return stacked(list(self.query_key_value(layer)))

    def query_key_value(self, layer: int) -> tuple[Source, Source, Source]:
        """Return the three projections of a block, each ``[width, width]``."""
        prefix = f"transformer.h.{layer}.attn."
        turned = halves(self.width, self.heads, self.rotary)
        if self.checkpoint.architecture == "CodeGenForCausalLM":
            fused = self.source(prefix + "qkv_proj.weight")
            query, key, value = split_codegen(fused.shape, self._blocks)
            return picked(fused, query[turned]), picked(fused, key[turned]), picked(fused, value)
        query_, key_, value_ = (self.source(f"{prefix}{name}_proj.weight") for name in "qkv")
        return picked(query_, turned), picked(key_, turned), value_

    @property
    def _blocks(self) -> int:
        # CodeGen2-1B and -3.7B were trained on eight cores; only their head_dim tells them from others.
        return 8 if self.checkpoint.config.get("head_dim") in {128, 256} else 4


def parallel_model(checkpoint: Checkpoint) -> ParallelModel:
    """Read the sizes of a CodeGen or GPT-J checkpoint. Raises ``ConversionError``."""
    activation = str(checkpoint.config.get("activation_function"))
    if activation not in ACTIVATIONS:
        raise ConversionError(
            f"activation_function {activation!r} is not supported: use a model with one of {ACTIVATIONS}"
        )
    width, heads = checkpoint.number("n_embd"), checkpoint.number("n_head")
    if width % heads:
        raise ConversionError(
            f"n_embd {width} is not a multiple of n_head {heads}: config.json is damaged; fetch it again"
        )
    return ParallelModel(
        checkpoint=checkpoint,
        layers=checkpoint.number("n_layer"),
        heads=heads,
        width=width,
        inner=int(checkpoint.config.get("n_inner") or 4 * width),
        rotary=int(checkpoint.config.get("rotary_dim") or width // heads),
        context=checkpoint.number("n_positions"),
        activation=activation,
        epsilon=float(checkpoint.config.get("layer_norm_epsilon", 1e-5)),
    )


def split_codegen(
    shape: tuple[int, ...], blocks: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of query, key and value in CodeGen's fused projection of ``shape [3 * width, width]``.

    The tensor has ``blocks`` slices, one per core of the training run, and each slice has its query, value
    and key rows in this order. Raises ``ConversionError`` for a shape that cannot be split.
    """
    if len(shape) != 2 or shape[0] != 3 * shape[1] or shape[1] % blocks:
        raise ConversionError(f"qkv_proj of shape {shape} cannot be split into {blocks} blocks of q, v and k")
    parts = np.arange(shape[0]).reshape(blocks, 3, shape[1] // blocks)
    query, value, key = (parts[:, index].reshape(-1) for index in range(3))
    return query, key, value


def halves(rows: int, heads: int, rotary: int) -> NDArray[np.int64]:
    """Return the order of a projection's rows that turns each head's rotary pairs into two halves."""
    per_head = np.arange(rows).reshape(heads, rows // heads)
    pairs = per_head[:, :rotary].reshape(heads, rotary // 2, 2)
    turned = pairs.swapaxes(1, 2).reshape(heads, rotary)
    order: NDArray[np.int64] = np.concatenate([turned, per_head[:, rotary:]], axis=1).reshape(-1)
    return order
