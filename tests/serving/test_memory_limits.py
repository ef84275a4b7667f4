"""The declared memory, proved: each engine runs inside a control group of exactly its declared size.

It starts, answers with every slot at full context at the same time, and nothing is killed. docs/memory.md has
the figures: ``python -m benchmarks.bench_memory``.
"""

import shutil
from pathlib import Path

import pytest

from benchmarks.support import memory_limits
from benchmarks.support.memory_cases import LONG, SHORT, Case
from testing import needs
from testing.models import UnreachableError
from testing.servers.triton import require_triton


def prove(case: Case, work: Path) -> None:
    """Run the case; fail where a process is killed or an answer is missing."""
    require_triton()
    if case.runtime != "ctranslate2":
        needs.package({"llama_cpp": "xllamacpp", "onnxruntime": "onnxruntime"}[case.runtime])
    try:
        found = memory_limits.measure(case, work)
    except UnreachableError as error:
        needs.skip(f"{case.model} cannot be fetched ({error})", needs.ONLINE)
    finally:
        # Some GiB, which pytest would keep for three runs.
        for folder in ("model", "converted"):
            shutil.rmtree(work / folder, ignore_errors=True)
    assert found.killed == 0
    assert found.answers == case.slots
    assert found.peak_mib <= found.declared_mib
    if case.runtime == "llama_cpp":
        # It writes the whole cache of every slot, however long the prompts are.
        assert found.held_mib >= case.use.cache


@pytest.mark.triton
@pytest.mark.parametrize("name", SHORT)
def test_tiny_codegen_answers_in_every_slot_at_full_context(tmp_path: Path, name: str):
    prove(SHORT[name], tmp_path)


@pytest.mark.triton
@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("name", LONG)
def test_a_model_of_true_size_answers_in_every_slot(tmp_path: Path, name: str):
    prove(LONG[name], tmp_path)
