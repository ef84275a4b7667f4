"""``ASSIST_TEST_ISA`` is obeyed: the libraries themselves say which instructions they use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.model_repository import Repository, generate
from testing import instruction_sets
from testing.servers.triton import ROOT, Triton, require_triton

ZEN4 = "flags : sse4_1 sse4_2 avx avx2 fma avx512f avx512bw avx512cd avx512dq avx512vl avx512_vnni"
HASWELL = "flags : sse4_1 sse4_2 avx avx2 fma"
# What CTranslate2 and the library behind it log under each set.
SAID = {
    "GENERIC": ("Selected ISA: GENERIC", "GEMM_S8 backend: DNNL", "isa:Intel SSE4.1\n"),
    "AVX2": ("Selected ISA: AVX2", "GEMM_S8 backend: DNNL", "isa:Intel AVX2\n"),
    "AVX512": ("Selected ISA: AVX512", "GEMM_S8 backend: DNNL", "isa:Intel AVX-512"),
    "MKL": ("Use Intel MKL: true", "GEMM_S8 backend: MKL", "MKL_VERBOSE"),
}
GENERATE = """
import sys, ctranslate2
model = ctranslate2.Generator(sys.argv[1], compute_type="int8", intra_threads=1)
model.generate_batch([sys.argv[2:]], max_length=2)
"""


def test_an_older_processor_has_fewer_sets_and_another_architecture_none():
    assert instruction_sets.of_this_machine(ZEN4, "x86_64") == ["GENERIC", "AVX2", "AVX512", "MKL"]
    assert instruction_sets.of_this_machine(HASWELL, "x86_64") == ["GENERIC", "AVX2", "MKL"]
    assert instruction_sets.of_this_machine(HASWELL, "aarch64") == []


def test_a_set_that_the_machine_lacks_is_refused_with_those_that_it_has(monkeypatch):
    monkeypatch.setattr(instruction_sets, "of_this_machine", lambda: ["GENERIC", "AVX2"])
    with pytest.raises(ValueError, match="ASSIST_TEST_ISA=AVX512: this machine has GENERIC, AVX2"):
        instruction_sets.environment("AVX512")


def test_the_libraries_log_the_set_that_was_asked_for(tiny_int8: Path):
    words = json.loads((tiny_int8 / "vocabulary.json").read_text())[300:310]
    for name in instruction_sets.of_this_machine():
        asked = instruction_sets.environment(name) | {"ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", GENERATE, tiny_int8, *words],
            env={**os.environ, **asked}, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert [part for part in SAID[name] if part not in done.stdout + done.stderr] == [], name


@pytest.mark.triton
def test_a_server_under_test_uses_the_set_that_was_asked_for(tiny_int8: Path, tmp_path: Path, monkeypatch):
    require_triton()
    # The one that no processor of today would choose by itself.
    monkeypatch.setenv(instruction_sets.VARIABLE, "GENERIC")
    described = Repository(model_dir=tiny_int8, runtime="ctranslate2", precision="int8", context_length=64)
    generate(tmp_path / "repository", described)
    server = Triton(tmp_path / "repository", tiny_int8, tmp_path / "triton.log")
    server.start()
    server.kill()
    assert "Selected ISA: GENERIC" in server.log.read_text()
