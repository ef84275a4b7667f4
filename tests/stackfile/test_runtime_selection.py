"""The selection of a runtime, which needs none installed."""

import subprocess
import sys
from typing import NamedTuple

import pytest

from serving.convert import PRECISIONS
from stackfile import runtime_selection
from stackfile.catalogue import accelerators


class Measured(NamedTuple):
    parameters: int
    runtime: str
    precision: str
    one_stream: float


FACTS = [
    Measured(1_000_000, "ctranslate2", "int8", 900),
    Measured(1_000_000, "onnxruntime", "int8", 300),
    Measured(100_000_000, "ctranslate2", "int8", 20),
    Measured(100_000_000, "llama_cpp", "Q8_0", 40),
    Measured(100_000_000, "onnxruntime", "int8", 50),
]
OFFERS = ("int8_float16", "float32")


@pytest.mark.parametrize(
    ("architecture", "parameters", "expected"),
    [
        ("codegen", 900_000, ("ctranslate2", "int8")),
        ("codegen", 9_000_000, ("ctranslate2", "int8")),
        ("codegen", 11_000_000, ("onnxruntime", "int8")),
        ("codegen", 7_000_000_000, ("onnxruntime", "int8")),
        ("qwen2", 1_500_000_000, ("ctranslate2", "int8")),
    ],
)
def test_the_fastest_at_the_nearest_measured_size_is_chosen(architecture, parameters, expected):
    assert runtime_selection.runtime(architecture, parameters, OFFERS, FACTS) == expected


def test_hardware_that_was_never_measured_gets_the_best_precision_of_ctranslate2():
    assert runtime_selection.runtime("codegen", 1_000_000, OFFERS, []) == ("ctranslate2", "int8_float16")
    assert runtime_selection.runtime("codegen", 1_000_000, (), []) == ("ctranslate2", "none")


def test_the_catalogue_measures_only_what_it_offers_and_what_can_be_converted():
    for facts in accelerators().values():
        for each in facts.measured:
            assert each.precision in facts.precisions[each.runtime]
            assert each.precision in PRECISIONS[each.runtime]


def test_selecting_a_runtime_imports_none():
    runtimes = {"numpy", "ctranslate2", "onnxruntime", "xllamacpp", "serving"}
    code = f"import sys, stackfile.runtime_selection; print(sorted({runtimes} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert answer.stdout.strip() == "[]"
