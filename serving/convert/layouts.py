"""The location of each architecture's weights, and their permutation into one common order.

CodeGen, GPT-J and Phi are one architecture in three layouts: attention and MLP in parallel behind one layer
norm, partial rotary positions, biased head. They differ in the fusion of the attention projections and in the
order of the rotary dimensions (GPT-J: interleaved pairs; Phi and GPT-NeoX: two halves).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from serving.convert.checkpoint import Array, Checkpoint
from serving.convert.errors import ConversionError

ACTIVATIONS = ("gelu_new", "gelu")


@dataclass(frozen=True, slots=True)
class Source:
    """One tensor, read by ``load``."""

    shape: tuple[int, ...]
    load: Callable[[], Array]


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
        return Source(self.checkpoint.shape(name), lambda: self.checkpoint.tensor(name))

    def block(self, layer: int, name: str) -> Source:
        """Return a tensor of one block unchanged, such as ``mlp.fc_in.weight``."""
        return self.source(f"transformer.h.{layer}.{name}")

    def attention(self, layer: int) -> Source:
        """Return query, key and value stacked, ``[3 * width, width]``, with rotary rows as two halves."""
        return Source((3 * self.width, self.width), lambda: np.concatenate(self.query_key_value(layer)))

    def query_key_value(self, layer: int) -> tuple[Array, Array, Array]:
        """Return the three projections of a block, each ``[width, width]``."""
        prefix = f"transformer.h.{layer}.attn."
        if self.checkpoint.architecture == "CodeGenForCausalLM":
            fused = self.checkpoint.tensor(prefix + "qkv_proj.weight")
            query, key, value = split_codegen(fused, self._blocks)
        else:
            query, key, value = (self.checkpoint.tensor(f"{prefix}{name}_proj.weight") for name in "qkv")
        return halves(query, self.heads, self.rotary), halves(key, self.heads, self.rotary), value

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


def split_codegen(fused: Array, blocks: int) -> tuple[Array, Array, Array]:
    """Split CodeGen's fused projection ``[3 * width, width]`` into query, key and value.

    The tensor has ``blocks`` slices, one per core of the training run, and each slice has its query, value
    and key rows in this order. Raises ``ConversionError`` for a shape that cannot be split.
    """
    rows, width = fused.shape
    if rows != 3 * width or width % blocks:
        raise ConversionError(
            f"qkv_proj of shape {fused.shape} cannot be split into {blocks} blocks of q, v and k"
        )
    parts = fused.reshape(blocks, 3, width // blocks, width)
    query, value, key = (parts[:, index].reshape(width, width) for index in range(3))
    return query, key, value


def halves(weight: Array, heads: int, rotary: int) -> Array:
    """Return the rotary rows of each head reordered from interleaved pairs to two halves."""
    per_head = weight.reshape(heads, weight.shape[0] // heads, weight.shape[1])
    pairs = per_head[:, :rotary].reshape(heads, rotary // 2, 2, -1)
    turned = pairs.swapaxes(1, 2).reshape(heads, rotary, -1)
    result: Array = np.concatenate([turned, per_head[:, rotary:]], axis=1).reshape(weight.shape)
    return result
