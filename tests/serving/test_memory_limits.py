"""The declared memory, proved: each engine runs inside a control group of exactly its declared size.

It starts, answers with every slot at full context at the same time, and nothing is killed. docs/memory.md has
the figures: ``python -m benchmarks.bench_memory``.
"""

from pathlib import Path

import pytest

from benchmarks.support import memory_limits
from benchmarks.support.memory_limits import Case
from testing import needs
from testing.servers.triton import require_triton

RUNTIMES = [("ctranslate2", "int8"), ("onnxruntime", "int8"), ("llama_cpp", "Q8_0")]
QWEN = "qwen2.5-coder-0.5b-instruct-Q4_K_M"


def require(runtime: str) -> None:
    require_triton()
    if runtime != "ctranslate2":
        needs.package({"llama_cpp": "xllamacpp", "onnxruntime": "onnxruntime"}[runtime])


@pytest.mark.triton
@pytest.mark.parametrize(("runtime", "precision"), RUNTIMES)
def test_tiny_codegen_answers_in_every_slot_at_full_context(tmp_path, runtime, precision):
    require(runtime)
    case = Case("tiny-codegen", runtime, precision, context=2048, slots=4)
    found = memory_limits.measure(case, tmp_path)
    assert found.killed == 0
    assert found.answers == 4
    assert found.peak_mib <= found.declared_mib


@pytest.mark.triton
@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(QWEN, "llama_cpp", "Q4_K_M", context=8192, slots=9), id="qwen-0.5b"),
        pytest.param(
            Case("qwen2.5-coder-1.5b-instruct-Q4_K_M", "llama_cpp", "Q4_K_M", context=4096, slots=2),
            id="qwen-1.5b",
        ),
        pytest.param(
            Case("smollm2-135m-instruct-Q4_1", "llama_cpp", "Q4_1", context=8192, slots=4), id="smollm2-135m"
        ),
        pytest.param(
            Case("codegen-350M-mono", "onnxruntime", "int8", context=2048, slots=9), id="codegen-350m"
        ),
        pytest.param(Case("codegen-2B-multi", "ctranslate2", "int8", context=2048, slots=1), id="codegen-2b"),
    ],
)
def test_a_real_model_answers_in_every_slot_at_full_context(tmp_path: Path, case: Case):
    require(case.runtime)
    try:
        found = memory_limits.measure(case, tmp_path)
    except memory_limits.UnavailableError as error:
        needs.skip(f"{case.model} cannot be fetched ({error})", needs.ONLINE)
    assert found.killed == 0
    assert found.answers == case.slots
    assert found.peak_mib <= found.declared_mib
