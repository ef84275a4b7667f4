"""Arrays as the inputs of a request to Triton."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import np_to_triton_dtype


def inputs(arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[grpc.InferInput]:
    """Return one input for each array, with the array's shape and type."""
    found = []
    for name, array in arrays.items():
        each = grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        each.set_data_from_numpy(array)
        found.append(each)
    return found
