"""What a stack takes of memory, and the refusals with settings that fit."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gateway.text import llama_grammar
from stackfile import StackFileError, catalogue, load_stack, memory, node_memory
from stackfile.catalogue import ROOT, accelerators, models
from stackfile.memory import Fitting, Use
from stackfile.memory_checks import smaller, use_resolved

STOCK = sorted(path.stem for path in (ROOT / "stacks").glob("[a-z]*.yaml"))
QWEN = "qwen2.5-coder-0.5b-instruct-Q4_K_M"
GIB = 1024


def stack(tmp_path: Path, **settings: object):
    document = {"name": "s", "target": "kubernetes", "auth": {"mode": "keys"}} | settings
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(document))
    return load_stack(file)


def refusal(tmp_path: Path, **settings: object) -> str:
    with pytest.raises(StackFileError) as error:
        stack(tmp_path, **settings)
    return str(error.value)


def use(model: str = QWEN, **settings: object) -> Use:
    facts = models()[model]
    given = {"runtime": "llama_cpp", "precision": next(iter(facts.memory_gib)), "context": 8192, "slots": 4}
    return Use(**{"model": facts, **given, **settings})


def test_the_cache_of_llama_cpp_is_two_bytes_for_each_key_and_value():
    """24 layers of 2 heads x 64 make 12 KiB a token, as llama.cpp itself prints it."""
    assert use(context=4096, slots=1).cache == 48
    assert use(context=32768, slots=12).cache == 12 * 384


@pytest.mark.parametrize("runtime", ["llama_cpp", "onnxruntime", "ctranslate2"])
def test_more_slots_and_longer_contexts_take_more(runtime):
    small = use(runtime=runtime, context=1024, slots=1)
    for larger in (replace(small, context=2048), replace(small, slots=2), replace(small, instances=2)):
        assert larger.host > small.host
    assert replace(small, devices=1).device > small.process


def test_on_a_gpu_the_cache_is_the_devices_and_not_the_machines():
    first, second = (use(devices=1, slots=slots) for slots in (1, 8))
    assert first.host == second.host
    assert second.device - first.device >= second.cache - first.cache


def test_a_gateway_has_room_for_its_own_tokenizer_and_for_the_check_of_grammars():
    """Measured: 57 MiB with llama.cpp's vocabulary of Qwen2.5, 73 while it is loaded; a check's own limit."""
    without = use(model="codegen-350M-mono", runtime="onnxruntime").gateway(0)
    vocabulary = models()[QWEN].vocabulary
    check = llama_grammar._DATA_BYTES // 2**20
    assert use().gateway(0) == pytest.approx(160 + vocabulary * 500 / 2**20 + check, abs=1)
    assert without == pytest.approx(160 + 51200 * 1100 / 2**20, abs=1)


@pytest.mark.parametrize(
    ("model", "engine", "measured_mib"),
    [
        (QWEN, "triton", 2 + 6 + 70 + 84),
        (QWEN, "llama", 2 + 45 + 70 + 84),
        ("smollm2-135m-instruct-Q4_1", "triton", 1 + 3 + 24),
        ("smollm2-135m-instruct-Q4_1", "llama", 1 + 23 + 24),
        ("mistral-7b-instruct-Q4_K_M", "llama", 132 + 10),
    ],
)
def test_llama_cpps_workspace_holds_what_it_reserved_and_no_twice_that(model, engine, measured_mib):
    """With 4 x 8192 tokens (Mistral 2): its buffers for outputs and computing, its vocabulary, Qwen's a grammar's."""
    slots = 2 if model.startswith("mistral") else 4
    assert measured_mib <= use(model, engine=engine, slots=slots).workspace <= 2.4 * measured_mib


def test_the_steps_of_tritons_llama_cpp_are_those_that_are_counted():
    source = (ROOT / "serving/backend/runtimes/llama_cpp.py").read_text()
    assert f"_CPU_STEP = {memory._LLAMA_CPU_STEP}\n" in source


@pytest.mark.parametrize("name", STOCK)
def test_every_stock_stack_says_what_each_process_takes(name):
    found = load_stack(ROOT / "stacks" / f"{name}.yaml")
    memory, served = found.memory, use_resolved(found)
    assert (memory.engine_mib, memory.device_mib) == (served.host, served.device)
    assert memory.loader_mib <= GIB
    assert memory.weights_mib == served.weights > 0
    assert memory.gateway_mib > 100


def test_a_gpu_gets_as_many_slots_as_fit_and_never_less_context_while_a_slot_can_go(tmp_path):
    found = stack(
        tmp_path, model="codegen-2B-multi", accelerator={"kind": "t4"},
        kubernetes={"store": {"access_mode": "ReadWriteMany"}},
    )  # fmt: skip
    limit = (accelerators()["t4"].memory_gib or 0) * GIB
    assert found.context_length == 2048
    served = use_resolved(found)
    assert served.slots > 1
    assert served.device <= limit < replace(served, slots=served.slots + 2).device


def test_a_long_context_is_not_the_default(tmp_path):
    assert models()[QWEN].context_length == 32768
    assert stack(tmp_path, model=QWEN).context_length == 8192
    assert stack(tmp_path, model=QWEN, context_length=32768).context_length == 32768


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"model": "mistral-7b-instruct-Q4_K_M", "kubernetes": {"triton": {"memory_mib": 6144}}}, "triton"),
        (
            {
                "model": "mistral-7b-instruct-Q4_K_M",
                "engine": {"kind": "openai"},
                "kubernetes": {"llama": {"memory_mib": 6144}},
            },
            "llama",
        ),
        (
            {
                "model": "mistral-7b-instruct-Q4_K_M",
                "target": "hosts",
                "hosts": {"triton": {"memory_mib": 6144}},
            },
            "triton",
        ),
    ],
)
def test_a_limit_that_is_too_small_is_refused_with_three_ways_that_fit(tmp_path, settings, where):
    said = refusal(tmp_path, **settings)
    assert f"{where}.memory_mib: 6144 MiB is too little" in said
    context = int(re.search(r"context_length: (\d+)", said)[1])
    slots = int(re.search(r"serving.slots: (\d+)", said)[1])
    smaller = re.search(r"model: (\S+)", said)[1]
    base = {name: value for name, value in settings.items() if name != "model"}
    assert stack(tmp_path, model=settings["model"], context_length=context, **base)
    assert stack(tmp_path, model=settings["model"], serving={"slots": slots}, **base)
    assert smaller == "mistral-7b-instruct-Q2_K"
    assert models()[smaller].pinned or f"assist models pin {smaller}" in said


def test_a_model_without_a_checksum_is_the_last_to_be_named_and_says_what_it_lacks(monkeypatch):
    large = models()[QWEN]
    bare = large.files[0].model_copy(update={"sha256": None})
    small, tiny = (
        large.model_copy(update={"id": name, "memory_gib": {name: gib}, "files": files})
        for name, gib, files in (("small", 0.4, (bare,)), ("tiny", 0.3, large.files))
    )
    monkeypatch.setattr(catalogue, "models", lambda: {QWEN: large, "small": small, "tiny": tiny})
    (first, _), (second, _) = smaller(use(), ())
    assert first == "model: tiny"
    assert second == "model: small (once `assist models pin small` has pinned it)"


@pytest.mark.parametrize("part", ["gateway", "loader"])
def test_a_gateway_and_a_loader_get_what_they_take_or_more(tmp_path, part):
    needed = getattr(stack(tmp_path, model="codegen-2B-multi").memory, f"{part}_mib")
    enough = {"model": "codegen-2B-multi", "kubernetes": {part: {"memory_mib": needed + 100}}}
    assert getattr(stack(tmp_path, **enough).memory, f"{part}_mib") == needed + 100
    quarter_less = {"model": "codegen-2B-multi", "kubernetes": {part: {"memory_mib": needed * 3 // 4}}}
    assert f"memory_mib: {needed}" in refusal(tmp_path, **quarter_less)


def test_an_accelerator_that_is_too_small_is_refused_with_ways_that_fit(tmp_path):
    settings = {
        "target": "gke", "model": "codegen-6B-multi", "precision": "float16", "accelerator": {"kind": "t4"},
        "gke": {"zones": ["us-central1-a"], "deletion_protection": False},
    }  # fmt: skip
    said = refusal(tmp_path, **settings)
    assert "13.2 of weights" in said
    assert "but t4 offers 13.8 GiB" in said
    assert "precision: int8" in said


def test_the_nodes_of_a_pool_must_hold_the_largest_pod(tmp_path):
    settings = {
        "target": "gke", "model": "mistral-7b-instruct-Q4_K_M", "engine": {"kind": "openai"},
        "gke": {"zones": ["us-central1-a"], "deletion_protection": False},
    }  # fmt: skip
    said = refusal(tmp_path, **settings)
    assert "gke.cpu_pool.machine_type: a node of type n1-standard-2 has" in said
    assert "serving.slots" in said
    pool = {"cpu_pool": {"machine_type": "n1-standard-8"}}
    assert stack(tmp_path, **settings | {"gke": settings["gke"] | pool})


@pytest.mark.parametrize(
    ("machine", "gib"),
    [("n1-standard-4", 15.0), ("g2-standard-8", 32.0), ("a2-highgpu-1g", 85.0), ("custom-4-8192", None)],
)
def test_machine_types_have_their_memory(machine, gib):
    assert node_memory.machine_gib(machine) == gib


def test_what_gke_keeps_of_a_node_grows_with_it():
    """GKE's own example: a node of 15 GiB keeps 2.5 GiB and 100 MiB for evictions."""
    left = node_memory.for_pods(15.0)
    assert 11_000 < left < (15 - 2.5) * GIB - 100


@pytest.mark.parametrize("model", [QWEN, "codegen-2B-multi", "mistral-7b-instruct-Q4_K_M"])
@pytest.mark.parametrize("share", [0.9, 0.75, 0.6])
def test_every_remedy_fits(model, share):
    facts = models()[model]
    runtime = "llama_cpp" if facts.format == "gguf" else "ctranslate2"
    precision = "float16" if runtime == "ctranslate2" else next(iter(facts.memory_gib))
    before = use(model, runtime=runtime, precision=precision, context=facts.context_length, slots=4)
    fitting = Fitting(lambda each: each.host, int(before.host * share))
    for said in fitting.remedies(before):
        found = {key: int(value) for key, value in re.findall(r"(context_length|slots): (\d+)", said)}
        after = replace(
            before, context=found.get("context_length", before.context), slots=found.get("slots", 4)
        )
        assert fitting.fits(after), said
        assert after != before
