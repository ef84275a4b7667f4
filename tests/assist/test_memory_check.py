"""The memory that is left for the service, and the refusal of a stack that takes more."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from assist import memory_check
from stackfile import ResolvedStack, load_stack
from stackfile.catalogue import ROOT
from testing.cgroup import memory_group


@pytest.fixture
def mistral(tmp_path: Path) -> ResolvedStack:
    file = tmp_path / "s.yaml"
    settings = {
        "name": "s",
        "target": "local",
        "model": "mistral-7b-instruct-Q4_K_M",
        "context_length": 32768,
    }
    file.write_text(yaml.safe_dump(settings))
    return load_stack(file)


def found(stack: ResolvedStack, monkeypatch: pytest.MonkeyPatch, free: int, **state: object):
    monkeypatch.setattr(memory_check, "available_mib", lambda: free)
    return memory_check.finding(stack, **{"fetched": True, **state})


def test_mistral_with_nine_caches_does_not_fit_a_machine_of_24_gib(mistral, monkeypatch):
    refused = found(mistral, monkeypatch, 24 * 1024)
    assert refused.status == "problem"
    assert "4.1 of weights, 36.0 of cache for 9 x 32768 tokens" in refused.cause
    for remedy in ("context_length: ", "serving.slots: ", "model: mistral-7b-instruct-Q2_K"):
        assert remedy in refused.remedy


@pytest.mark.parametrize("file", sorted((ROOT / "stacks").glob("[a-z]*.yaml")), ids=lambda file: file.stem)
def test_a_quarter_less_than_declared_is_refused_and_the_declared_memory_is_enough(file, monkeypatch):
    stack = load_stack(file)
    needed = stack.memory.engine_mib + stack.memory.gateway_mib
    assert found(stack, monkeypatch, needed).status == "ok"
    refused = found(stack, monkeypatch, needed * 3 // 4)
    assert refused.status == "problem"
    assert refused.remedy


def test_a_loader_counts_until_the_model_is_there(monkeypatch):
    stack = load_stack(ROOT / "stacks/local.yaml")
    large = stack.memory.model_copy(update={"loader_mib": 9000})
    stack = stack.model_copy(update={"memory": large})
    assert found(stack, monkeypatch, 8000, fetched=False).status == "problem"
    assert found(stack, monkeypatch, 8000, fetched=True).status == "ok"


def test_a_service_that_runs_can_give_its_memory_back_and_no_more(mistral, monkeypatch):
    assert found(mistral, monkeypatch, 0, own_mib=2**20).status == "ok"
    assert "once the running service has stopped" in found(mistral, monkeypatch, 0, own_mib=100).cause


def test_the_limit_of_a_container_counts_and_not_the_memory_of_its_machine():
    program = "from assist.memory_check import available_mib; print(available_mib())"
    with memory_group(300) as group:
        argv = group.wrapped([sys.executable, "-c", program])
        left = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert 150 < left <= 300
