"""Writes an ONNX graph for onnxruntime on a CPU: int8 weights and activations, and an external KV cache.

Activations are quantised row by row, so that a row's numbers do not depend on other rows, and sums of int8
products are exact in int32. A row therefore generates the same text alone and in any batch.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto

from serving.convert import vocabulary
from serving.convert.blocks import Source, stacked
from serving.convert.checkpoint import Checkpoint
from serving.convert.errors import ConversionError
from serving.convert.layouts import ParallelModel, parallel_model
from serving.convert.onnx_graph import CONTRIB, Graph, quantise

FILE_NAME = "model.onnx"
_DATA_NAME = "model.onnx.data"
_ARCHITECTURES = ("CodeGenForCausalLM", "GPTJForCausalLM")
_ROTARY_BASE = 10_000.0
_ROTARY_MULTIPLE = 16


def convert(checkpoint: Checkpoint, target_dir: Path, precision: str) -> None:  # noqa: ARG001 -- there is only one
    """Convert ``checkpoint`` into ``target_dir / model.onnx`` and data; see ``serving.convert.convert``.

    Raises ``ConversionError``.
    """
    if checkpoint.architecture not in _ARCHITECTURES:
        raise ConversionError(
            f"no ONNX conversion for {checkpoint.architecture} (supported: {', '.join(_ARCHITECTURES)}): "
            "use the ctranslate2 or the llama_cpp runtime"
        )
    model = parallel_model(checkpoint)
    vocabulary.eos_id(checkpoint)
    if model.activation != "gelu_new":
        raise ConversionError(
            f"no ONNX conversion for activation {model.activation!r}: use the ctranslate2 runtime"
        )
    if model.rotary % _ROTARY_MULTIPLE:
        raise ConversionError(
            f"rotary_dim {model.rotary} is not a multiple of {_ROTARY_MULTIPLE}, as onnxruntime's attention "
            "requires: use the ctranslate2 runtime"
        )
    with (target_dir / _DATA_NAME).open("wb") as data:
        graph = Graph(data, _DATA_NAME)
        _Decoder(graph, model).build()
    graph.save(target_dir / FILE_NAME)


class _Decoder:
    """Adds a CodeGen or GPT-J model to a graph.

    Inputs: ``input_ids [batch, length]`` int64, ``last [batch]`` int32 (the index of each row's last token in
    the cache), ``total`` int32 (the largest index plus one) and a cache per layer, ``[batch, heads, capacity,
    size]``. Outputs: ``logits [batch, vocabulary]`` after each row's last token, and the caches.
    """

    def __init__(self, graph: Graph, model: ParallelModel) -> None:
        self._graph = graph
        self._model = model

    def build(self) -> None:
        """Add all inputs, nodes and outputs."""
        g, model = self._graph, self._model
        ids = g.input("input_ids", TensorProto.INT64, ["batch", "length"])
        g.input("last", TensorProto.INT32, ["batch"])
        g.input("total", TensorProto.INT32, [])
        self._constants(ids)
        x = self._embed(ids)
        normed = self._norm(x, "transformer.h.0.ln_1")
        for layer in range(model.layers):
            after = f"transformer.h.{layer + 1}.ln_1" if layer + 1 < model.layers else "transformer.ln_f"
            x, normed = self._block(layer, x, normed, after)
        self._head(normed)

    def _constants(self, ids: str) -> None:
        g, model = self._graph, self._model
        g.small("step", np.array(1 / 127, np.float32))
        g.small("one", np.array(1, np.float32))
        g.small("minus_one", np.array([-1], np.int64))
        g.small("zero_point", np.array(128, np.uint8))
        g.small("flat", np.array([-1, model.width], np.int64))
        shape = g.node("Shape", [ids])
        g.node("Concat", [shape, "minus_one"], "per_row", axis=0)
        rows = g.node("ReduceProd", [shape], keepdims=1)
        g.node("Expand", ["zero_point", rows], "zero_points")
        batch = g.node("Shape", [ids], start=0, end=1)
        g.node("Expand", ["zero_point", batch], "last_zero_points")
        angles = np.outer(
            np.arange(model.context), _ROTARY_BASE ** (-np.arange(0, model.rotary, 2) / model.rotary)
        )
        g.weight("cos", np.cos(angles).astype(np.float32))
        g.weight("sin", np.sin(angles).astype(np.float32))

    def _embed(self, ids: str) -> str:
        g = self._graph
        table = g.half("embeddings", self._model.source("transformer.wte.weight"))
        rows = g.node("Cast", [g.node("Gather", [table, ids])], to=TensorProto.FLOAT)
        return g.node("Reshape", [rows, "flat"])

    def _block(self, layer: int, x: str, normed: str, after: str) -> tuple[str, str]:
        """Add one block, attention and MLP in parallel. Return the residual and its norm ``after``."""
        g, model = self._graph, self._model
        prefix = f"transformer.h.{layer}."
        fused = stacked([model.attention(layer), model.block(layer, "mlp.fc_in.weight")])
        sizes = g.small(f"{prefix}sizes", np.array([3 * model.width, model.inner], np.int64))
        g.node(
            "Split",
            [self._linear(normed, fused, prefix + "in"), sizes],
            prefix + "qkv",
            prefix + "inner",
            axis=-1,
        )
        attended = self._attention(layer, prefix + "qkv")
        inner = g.node(
            "FastGelu", [prefix + "inner", self._vector(prefix + "mlp.fc_in.bias")], domain=CONTRIB
        )
        branches = g.node(
            "Add",
            [
                self._linear(attended, model.block(layer, "attn.out_proj.weight"), prefix + "out"),
                self._linear(inner, model.block(layer, "mlp.fc_out.weight"), prefix + "down"),
            ],
        )
        names = (prefix + "normed", "", "", prefix + "sum")
        vectors = [
            self._vector(name) for name in (after + ".weight", after + ".bias", prefix + "mlp.fc_out.bias")
        ]
        g.node(
            "SkipLayerNormalization", [branches, x, *vectors], *names, domain=CONTRIB, epsilon=model.epsilon
        )
        return prefix + "sum", prefix + "normed"

    def _attention(self, layer: int, qkv: str) -> str:
        g, model = self._graph, self._model
        shape: list[str | int] = ["batch", model.heads, "capacity", model.width // model.heads]
        past = [g.input(f"past.{layer}.{part}", TensorProto.FLOAT, shape) for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        attended = g.node(
            "GroupQueryAttention",
            [g.node("Reshape", [qkv, "per_row"]), "", "", *past, "last", "total", "cos", "sin"],
            f"attended.{layer}", *present, domain=CONTRIB,
            num_heads=model.heads, kv_num_heads=model.heads, do_rotary=1, rotary_interleaved=0,
        )  # fmt: skip
        for name in present:
            g.output(name, TensorProto.FLOAT, shape)
        return g.node("Reshape", [attended, "flat"])

    def _head(self, normed: str) -> None:
        g = self._graph
        per_row = g.node("Reshape", [normed, "per_row"])
        last = g.node("Gather", [per_row, g.small("end", np.array(-1, np.int64))], axis=1)
        product = self._linear(
            last, self._model.source("lm_head.weight"), "lm_head", zero_points="last_zero_points"
        )
        logits = g.node("Add", [product, self._vector("lm_head.bias")], "logits")
        g.output(logits, TensorProto.FLOAT, ["batch", self._model.checkpoint.number("vocab_size")])

    def _linear(self, x: str, weight: Source, name: str, zero_points: str = "zero_points") -> str:
        """Multiply ``x [rows, inputs]``, quantised row by row, by ``weight [outputs, inputs]``."""
        g = self._graph
        peaks = g.node("ReduceMax", [g.node("Abs", [x]), "minus_one"], keepdims=0)
        steps = g.node("Mul", [peaks, "step"])
        whole = g.node("QuantizeLinear", [x, steps, zero_points], axis=0)
        column = g.node("Unsqueeze", [steps, "minus_one"])
        values, scales = quantise(weight)
        g.weight(name + ".values", values)
        g.weight(name + ".scales", scales)
        product = g.node(
            "MatMulIntegerToFloat",
            [whole, name + ".values", "one", name + ".scales", "zero_point"],
            domain=CONTRIB,
        )
        return g.node("Mul", [product, column])

    def _norm(self, x: str, name: str) -> str:
        return self._graph.node(
            "LayerNormalization",
            [x, self._vector(name + ".weight"), self._vector(name + ".bias")],
            epsilon=self._model.epsilon,
        )

    def _vector(self, name: str) -> str:
        return self._graph.weight(name, self._model.source(name).load())
