"""The loader of each stock stack inside a control group of exactly its declared size, in the pod's own words.

personal-gpt-cpu's downloads as the one of ``local`` does. ``hosts`` and ``kube-local`` have the loader of ``tiny``,
``gke-dev`` and ``gke-prod`` that of ``code-completion-t4``.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.support import random_codegen
from stackfile import ResolvedStack, load_stack
from stackfile.catalogue import ROOT
from testing import needs
from testing.cgroup import memory_group
from testing.doubles.hub import Hub
from testing.models import fetched

CONVERTED = {
    "code-completion-cpu": random_codegen.CODEGEN_350M,
    "code-completion-t4": random_codegen.CODEGEN_2B,
}


def load(stack: ResolvedStack, store: Path, *options: str) -> Path:
    """Run the loader within the stack's memory; return the model's folder in the store."""
    argv = [
        sys.executable,
        "-P",
        "-m",
        "model_loader",
        "fetch",
        stack.model.id,
        "--store",
        str(store),
        *options,
    ]
    if stack.model.format != "gguf":
        needs.package("onnx" if stack.runtime == "onnxruntime" else "ctranslate2")
        argv += ["--runtime", stack.runtime, "--precision", stack.precision]
    with memory_group(stack.memory.loader_mib) as group:
        done = subprocess.run(group.wrapped(argv), cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, group.killed) == (0, 0), (done.stdout[-2000:], done.stderr[-2000:])
    return store / stack.model.id


def converted_bytes(home: Path, stack: ResolvedStack) -> int:
    folder = home / f"current.{stack.runtime}-{stack.precision}"
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_tiny_codegen_is_fetched_and_converted(tmp_path: Path):
    stack = load_stack(ROOT / "stacks/tiny.yaml")
    assert converted_bytes(load(stack, tmp_path), stack) >= stack.model.parameters


def test_a_file_larger_than_the_loaders_memory_is_downloaded(tmp_path: Path):
    stack = load_stack(ROOT / "stacks/local.yaml")
    (file,) = fetched(stack.model.id).glob("*.gguf")
    assert file.stat().st_size > 2 * stack.memory.loader_mib * 2**20
    hub = Hub({file.name: file.read_bytes()})
    try:
        folder = load(stack, tmp_path, "--source", hub.url, "--allow-http") / "current"
    finally:
        hub.close()
    assert hub.gets(file.name)
    assert (folder / file.name).stat().st_size == file.stat().st_size
    shutil.rmtree(folder.parent)


@pytest.mark.long
@pytest.mark.timeout(2 * 3600)
@pytest.mark.parametrize("name", CONVERTED)
def test_a_model_of_true_size_is_fetched_and_converted(tmp_path: Path, name: str):
    stack = load_stack(ROOT / "stacks" / f"{name}.yaml")
    source = random_codegen.make(tmp_path / "source", CONVERTED[name])
    home = load(stack, tmp_path / "store", "--source", str(source), "--allow-unpinned")
    assert converted_bytes(home, stack) >= 0.9 * stack.memory.weights_mib * 2**20
    for each in (source, tmp_path / "store"):
        shutil.rmtree(each)
