"""Builds an ONNX graph node by node; weights are written to a file beside it as they are added."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from serving.convert.blocks import Array, Source

CONTRIB = "com.microsoft"
# Opset 21 introduced the QuantizeLinear that is used here, and requires IR 10.
_OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
_IR_VERSION = 10
# A weight that begins at a multiple of the page size is memory-mapped and not copied.
_ALIGNMENT = 4096
# Processors without VNNI add two products, uint8 times int8, in 16 bits, which overflow with weights up to
# 127. Up to 64 every processor computes the same (reduce_range in onnxruntime's quantisation guide).
_WEIGHT_PEAK = np.float32(64)


class Graph:
    """Nodes, weights, inputs and outputs in the order in which they are added; strings name the values."""

    def __init__(self, data: BinaryIO, location: str) -> None:
        """Write weights to ``data``, whose path relative to the graph's file is ``location``."""
        self._data = data
        self._location = location
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, shape: Sequence[str | int]) -> str:
        """Declare an input of element type ``kind`` and return its name."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, kind: int, shape: Sequence[str | int]) -> None:
        """Declare the value ``name`` as an output."""
        self._outputs.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def small(self, name: str, array: NDArray[Any]) -> str:
        """Add a small constant, stored in the graph's file, and return its name."""
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Write a weight to the data file and return its name."""
        return self._written(name, array.shape, [array], array.dtype)

    def half(self, name: str, source: Source) -> str:
        """Write a weight as float16, block by block, and return its name."""
        blocks = (block.astype(np.float16) for block in source.blocks())
        return self._written(name, source.shape, blocks, np.dtype(np.float16))

    def _written(
        self, name: str, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]], dtype: np.dtype[Any]
    ) -> str:
        self._data.write(b"\0" * (-self._data.tell() % _ALIGNMENT))
        entry = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(dtype),
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        start = self._data.tell()
        for block in blocks:
            self._data.write(np.ascontiguousarray(block).data)
        extent = {"location": self._location, "offset": start, "length": self._data.tell() - start}
        for key, value in extent.items():
            entry.external_data.add(key=key, value=str(value))
        self._weights.append(entry)
        return name

    def node(
        self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: object
    ) -> str:
        """Add an operator and return its first output; without ``outputs`` the name is generated."""
        names = outputs or (f"{kind}_{len(self._nodes)}",)
        self._nodes.append(helper.make_node(kind, list(inputs), list(names), domain=domain, **attributes))
        return names[0]

    def save(self, path: Path) -> None:
        """Write the graph to ``path``."""
        graph = helper.make_graph(self._nodes, "decoder", self._inputs, self._outputs, self._weights)
        model = helper.make_model(
            graph, opset_imports=_OPSETS, ir_version=_IR_VERSION, producer_name="ai-assist"
        )
        path.write_bytes(model.SerializeToString(deterministic=True))


def quantise(weight: Source) -> tuple[NDArray[np.int8], Array]:
    """Return ``weight [outputs, inputs]`` as int8 ``[inputs, outputs]``, and the scale of each output."""
    outputs, inputs = weight.shape
    values, steps, start = np.empty((inputs, outputs), np.int8), np.empty(outputs, np.float32), 0
    for block in weight.blocks():
        end = start + len(block)
        step = np.abs(block).max(axis=1) / _WEIGHT_PEAK
        step[step == 0] = 1
        block /= step[:, None]
        values[:, start:end] = np.rint(block, out=block).T
        steps[start:end] = step
        start = end
    return values, steps
