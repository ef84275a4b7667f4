"""Which runtime is chosen, and that asking needs no runtime."""

import subprocess
import sys

import pytest

from serving.choose import runtime


@pytest.mark.parametrize(
    ("architecture", "parameters", "accelerator", "expected"),
    [
        ("codegen", 2_600_000, "cpu", ("ctranslate2", "int8")),
        ("codegen", 357_000_000, "cpu", ("llama_cpp", "Q8_0")),
        ("qwen2", 1_500_000_000, "cpu", ("ctranslate2", "int8")),
        ("codegen", 2_700_000_000, "t4", ("ctranslate2", "int8_float16")),
        ("codegen", 357_000_000, "k80", ("ctranslate2", "float32")),
    ],
)
def test_the_choice_follows_the_measurements(architecture, parameters, accelerator, expected):
    assert runtime(architecture, parameters, accelerator) == expected


def test_asking_imports_the_standard_library_only():
    code = "import sys, serving.choose; print(sorted({'numpy', 'ctranslate2', 'yaml'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert answer.stdout.strip() == "[]"
