"""A stack file is refused completely and clearly, or resolved completely."""

from pathlib import Path

import pytest
import yaml

from stackfile import StackFileError, catalogue, load_stack
from stackfile.catalogue import ROOT, runtimes
from stackfile.environment import GatewayPaths, gateway_environment

GOOD = {"name": "s", "target": "local", "model": "tiny-codegen", "accelerator": {"kind": "cpu"}}


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(StackFileError) as refused:
        load_stack(file)
    return [str(problem).removeprefix(f"{file}:") for problem in refused.value.problems]


def changed(tmp_path: Path, **settings: object) -> list[str]:
    return problems(tmp_path, yaml.safe_dump(GOOD | settings, sort_keys=False))


def loaded(tmp_path: Path, **settings: object):
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(GOOD | settings))
    return load_stack(file)


def test_every_stack_in_the_repository_resolves():
    stacks = sorted((ROOT / "stacks").glob("*.yaml"))
    services = [load_stack(file) for file in stacks if not file.name.startswith("Pulumi.")]
    assert {service.name for service in services} >= {"local"}


def test_the_local_stack_is_complete_in_about_fifteen_lines():
    assert len((ROOT / "stacks/local.yaml").read_text().splitlines()) <= 15


def test_the_stock_stack_fills_in_the_middle_and_the_toy_needs_no_download():
    stock, toy = (load_stack(ROOT / f"stacks/{name}.yaml").model for name in ("local", "tiny"))
    assert stock.fim
    assert stock.commercial
    assert all(file.sha256 for file in stock.files)
    assert toy.path


def test_the_resolved_document_leaves_nothing_to_default(tmp_path):
    document = loaded(tmp_path).model_dump()
    assert document["gateway"]["port"] == 5000
    assert document["limits"]["max_in_flight"] > 0
    assert document["accelerator"]["split"] == "none"


def test_a_models_weights_count_once_an_instance(tmp_path):
    six_billion = loaded(tmp_path, model="codegen-6B-multi", accelerator={"kind": "t4"})
    assert six_billion.precision == "int8_float16"


def test_all_problems_are_reported_at_once_with_line_and_remedy(tmp_path):
    text = """name: other
target: loca
model: codegen-6B-multi
precision: float16
accelerator: {kind: t4, count: 2}
gateway:
  prot: 5000
  port: "5000"
triton: {grpc_port: 8000}
"""
    found = problems(tmp_path, text)
    assert [problem.split(":")[0] for problem in found] == ["1", "2", "3", "5", "7", "8", "9"]
    assert "did you mean 'port'?" in found[4]
    assert "check the quotes" in found[5]


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"model": "tiny-codgen"}, "did you mean 'tiny-codegen'?"),
        ({"accelerator": {"kind": "l44"}}, "did you mean 'l4'?"),
        (
            {"model": "codegen-6B-multi", "accelerator": {"kind": "t4"}, "precision": "float32"},
            "int8_float16",
        ),
        (
            {"model": "codegen-6B-multi", "accelerator": {"kind": "t4"}, "serving": {"instances": 3}},
            "choose a smaller model",
        ),
        ({"accelerator": {"kind": "t4", "count": 2}}, "set split: replicate"),
        ({"accelerator": {"kind": "t4", "count": 2, "split": "tensor"}}, "set split: replicate"),
        ({"accelerator": {"kind": "cpu", "count": 2}}, "serving.instances"),
        ({"accelerator": {"kind": "k80"}, "precision": "int8"}, "one of: float32"),
        ({"model": "mistral-7b-instruct-Q2_K", "runtime": "ctranslate2"}, "set runtime: llama_cpp"),
        (
            {"model": "mistral-7b-instruct-Q2_K", "accelerator": {"kind": "k80"}},
            "leave the k80 idle; set kind: cpu",
        ),
        (
            {"model": "mistral-7b-instruct-Q2_K", "accelerator": {"kind": "t4"}},
            "leave the t4 idle; set kind: cpu",
        ),
        (
            {"runtime": "llama_cpp", "accelerator": {"kind": "a100"}},
            "engine.url of a llama.cpp server with CUDA",
        ),
        ({"model": "qwen2.5-coder-1.5b", "runtime": "onnxruntime"}, "cannot be converted for onnxruntime"),
        ({"model": "qwen2.5-coder-1.5b", "runtime": "llama_cpp"}, "cannot be converted for llama_cpp"),
        ({"runtime": "onnxruntime", "accelerator": {"kind": "t4"}}, "choose another runtime"),
        ({"engine": {"kind": "openai"}}, "e.g. http://127.0.0.1:8080/v1"),
        ({"engine": {"kind": "triton", "url": "http://x"}}, "triton.host"),
        ({"gateway": {"metrics_port": 5000}}, "give one of them another port"),
        ({"context_length": 4096}, "lower it or leave it out"),
        ({"gateway": {"host": "0.0.0.0"}, "auth": {"mode": "none"}}, "set keys or gitlab"),
        (
            {"target": "gke", "accelerator": {"kind": "t4", "count": 3, "split": "replicate"}},
            "1, 2, 4 of t4 on a node",
        ),
        ({"limits": {"engine_wait_s": 30.0}}, "raise deadline_s"),
        ({"limits": {"max_in_flight": 0}}, "greater than or equal to 1"),
        ({"gateway": {"port": 70000}}, "less than or equal to 65535"),
        ({"auth": {"mode": "key"}}, "'none', 'keys' or 'gitlab'"),
        ({"colour": "red"}, "known keys:"),
    ],
)
def test_a_conflict_is_refused_with_its_remedy(tmp_path, settings, remedy):
    assert any(remedy in problem for problem in changed(tmp_path, **settings))


def test_a_key_given_twice_is_refused_although_yaml_would_keep_the_last(tmp_path):
    assert problems(tmp_path, "name: s\nname: t\n") == ["2: name: duplicate key; remove one"]


def test_a_required_key_that_is_missing_is_named(tmp_path):
    found = problems(tmp_path, "name: s\ntarget: local\n")
    assert found == ["1: model: is missing and has no default; add it"]


def test_broken_yaml_names_its_line(tmp_path):
    assert problems(tmp_path, "name: s\nmodel: [\n")[0].startswith("3: (file): is not valid YAML")


def test_a_missing_stack_lists_the_stacks_there_are_but_not_pulumis_files(tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine")
    (tmp_path / "Pulumi.mine.yaml").write_text("config: {}")
    with pytest.raises(StackFileError, match=r"Stacks here: mine\."):
        load_stack(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("model", "accelerator", "expected"),
    [
        ("tiny-codegen", "cpu", ("ctranslate2", "int8")),
        ("codegen-350M-mono", "cpu", ("onnxruntime", "int8")),
        ("qwen2.5-coder-1.5b", "cpu", ("ctranslate2", "int8")),
        ("codegen-2B-multi", "t4", ("ctranslate2", "int8_float16")),
        ("codegen-350M-mono", "k80", ("ctranslate2", "float32")),
        ("mistral-7b-instruct-Q4_K_M", "cpu", ("llama_cpp", "Q4_K_M")),
        ("qwen2.5-coder-1.5b", "t4", ("ctranslate2", "int8_float16")),
    ],
)
def test_auto_chooses_what_the_hardware_runs_best(tmp_path, model, accelerator, expected):
    service = loaded(tmp_path, model=model, accelerator={"kind": accelerator})
    assert (service.runtime, service.precision) == expected


def entry(monkeypatch, base: str, **changes: object) -> None:
    """Add the model ``other`` to the catalogue: ``base`` with changed facts."""
    models = dict(catalogue.models())
    models["other"] = models[base].model_copy(update=changes)
    monkeypatch.setattr(catalogue, "models", lambda: models)


@pytest.mark.parametrize("precision", runtimes()["llama_cpp"].file_types)
def test_a_gguf_file_of_any_type_that_llama_cpp_reads_is_accepted(tmp_path, monkeypatch, precision):
    entry(monkeypatch, "smollm2-135m-instruct-Q4_1", memory_gib={precision: 0.1})
    own_server = {"engine": {"kind": "openai", "url": "http://127.0.0.1:8080/v1"}}
    for place in ({"accelerator": {"kind": "cpu"}}, {"accelerator": {"kind": "t4"}, **own_server}):
        stack = loaded(tmp_path, model="other", **place)
        assert (stack.runtime, stack.precision) == ("llama_cpp", precision)


@pytest.mark.parametrize(
    "architecture", ["llama", "qwen3", "starcoder2", "granite", "deepseek2", "gemma", "phi3"]
)
def test_a_gguf_file_of_any_architecture_that_llama_cpp_reads_is_accepted(
    tmp_path, monkeypatch, architecture
):
    entry(monkeypatch, "smollm2-135m-instruct-Q4_1", architecture=architecture)
    assert loaded(tmp_path, model="other").runtime == "llama_cpp"


@pytest.mark.parametrize(
    ("base", "changes", "reason"),
    [
        (
            "smollm2-135m-instruct-Q4_1",
            {"architecture": "bert"},
            "generates no text with architecture 'bert'",
        ),
        ("smollm2-135m-instruct-Q4_1", {"memory_gib": {"Q9_X": 0.1}}, "does not read weights of type Q9_X"),
        ("qwen2.5-coder-1.5b", {"architecture": "starcoder2"}, "no runtime here converts from safetensors"),
    ],
)
def test_a_model_that_no_runtime_serves_is_refused_with_the_reason(
    tmp_path, monkeypatch, base, changes, reason
):
    entry(monkeypatch, base, **changes)
    found = changed(tmp_path, model="other")
    assert len(found) == 1
    assert reason in found[0]
    assert "choose a" in found[0]


def test_a_gguf_file_keeps_its_own_precision(tmp_path):
    found = changed(tmp_path, model="smollm2-135m-instruct-Q4_1", precision="Q8_0")
    assert "set precision to one of: Q4_1" in found[0]


def test_onnxruntime_runs_codegen_in_int8_on_a_cpu(tmp_path):
    service = loaded(tmp_path, model="codegen-350M-mono", runtime="onnxruntime", accelerator={"kind": "cpu"})
    assert service.variant == "onnxruntime-int8"


def test_the_reference_model_fits_the_reference_accelerator(tmp_path):
    service = loaded(tmp_path, model="codegen-2B-multi", accelerator={"kind": "t4"})
    assert service.variant == "ctranslate2-int8_float16"


@pytest.mark.parametrize(
    ("model", "fim", "template"),
    [
        ("qwen2.5-coder-0.5b-instruct-Q4_K_M", "", "<|fim_prefix|>"),
        ("qwen2.5-coder-0.5b-instruct-Q4_K_M", "fim: none\n", None),
        ("qwen3-0.6b-Q8_0", "", None),
    ],
)
def test_a_model_fills_in_the_middle_where_catalogue_and_stack_say_so(tmp_path, model, fim, template):
    file = tmp_path / "s.yaml"
    file.write_text(f"name: s\ntarget: local\nmodel: {model}\n{fim}")
    environment = gateway_environment(load_stack(file), GatewayPaths(tmp_path, tmp_path / "keys.json"))
    said = environment["ASSIST_FIM_TEMPLATE"]
    assert said == "none" if template is None else said.startswith(f'{{"template":"{template}')


def test_an_entry_may_say_that_its_model_does_not_fill_in_the_middle():
    facts = catalogue.models()["qwen2.5-coder-1.5b"].model_dump(exclude_none=True)
    assert catalogue.ModelFacts.model_validate(facts | {"fim": "none"}).fim is None
    assert catalogue.ModelFacts.model_validate(facts).fim is not None
