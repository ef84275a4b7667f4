"""A stack in its place on this machine."""

from pathlib import Path

import pytest

from assist.deployment import Overrides, current, resolve
from assist.paths import SOURCE, Paths


@pytest.fixture
def layout(tmp_path: Path) -> Paths:
    return Paths(SOURCE, tmp_path / ".run")


def test_the_stack_says_where_the_gateway_listens_unless_the_run_says_otherwise(layout):
    assert resolve("tiny", layout).url == "http://127.0.0.1:5000"
    assert resolve("tiny", layout, Overrides.of("", "5100")).url == "http://127.0.0.1:5100"
    assert resolve("tiny", layout, Overrides.of("0.0.0.0", "")).url == "http://127.0.0.1:5000"
    assert resolve("tiny", layout, Overrides.of("::1", "")).url == "http://[::1]:5000"


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "5 100"])
def test_a_port_that_is_none_is_refused_with_an_example(port):
    with pytest.raises(ValueError, match=r"PORT=5100"):
        Overrides.of("", port)


def test_what_a_role_is_given_changes_its_process_revision_and_no_other(layout):
    before = resolve("tiny", layout).facts()["supervisor"]["revisions"]
    after = resolve("tiny", layout, Overrides(port=5100)).facts()["supervisor"]["revisions"]
    assert before["gateway"] != after["gateway"]
    assert before["triton"] == after["triton"]


def test_a_secret_of_the_environment_reaches_the_gateway_alone(layout, monkeypatch):
    monkeypatch.setenv("ASSIST_REDIS_URL", "redis://:hidden@127.0.0.1/0")
    facts = resolve("tiny", layout).facts()
    assert facts["gateway"].pop("environment")["ASSIST_REDIS_URL"].endswith("127.0.0.1/0")
    assert "hidden" not in str(facts)


def test_the_deployment_is_read_back_from_what_the_gateway_was_told(layout):
    layout.config.mkdir(parents=True)
    assert current(layout) is None
    environment = resolve("tiny", layout, Overrides(port=5100)).gateway_environment()
    layout.gateway_env.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
    found = current(layout)
    assert found is not None
    assert found.url == "http://127.0.0.1:5100"
    assert found.facts() == resolve("tiny", layout, Overrides(port=5100)).facts()


def test_the_secrets_of_the_start_count_and_not_those_of_whoever_asks(layout, monkeypatch):
    monkeypatch.setenv("ASSIST_REDIS_URL", "redis://127.0.0.1/0")
    started = resolve("tiny", layout)
    layout.config.mkdir(parents=True)
    environment = started.gateway_environment()
    layout.gateway_env.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))
    monkeypatch.delenv("ASSIST_REDIS_URL")
    found = current(layout)
    assert found is not None
    assert found.facts() == started.facts()


def test_another_engine_needs_neither_triton_nor_its_environment(layout, tmp_path):
    stack = tmp_path / "remote.yaml"
    text = (SOURCE / "stacks/tiny.yaml").read_text().replace("name: tiny", "name: remote")
    stack.write_text(text.replace("{kind: triton}", "{kind: openai, url: 'http://127.0.0.1:8080/v1'}"))
    deployment = resolve(str(stack), layout)
    assert not deployment.needs_triton
    assert set(deployment.locks) == {"gateway"}
    assert "ASSIST_MODEL_DIR" not in deployment.gateway_environment()
    assert not any("Triton" in use for use in deployment.ports)


@pytest.mark.parametrize(
    ("runtime", "lock"),
    [("ctranslate2", []), ("llama_cpp", ["llamacpp.txt"]), ("onnxruntime", ["onnx.txt"])],
)
def test_the_serving_environment_holds_what_the_runtime_needs(layout, tmp_path, runtime, lock):
    stack = tmp_path / "other.yaml"
    text = (SOURCE / "stacks/tiny.yaml").read_text().replace("name: tiny", "name: other")
    text = text.replace("runtime: ctranslate2", f"runtime: {runtime}").replace("precision: int8", "")
    stack.write_text(text)
    assert resolve(str(stack), layout).locks["serving"] == ["serving.txt", "triton.txt", *lock]


def test_the_locks_of_one_environment_agree_on_every_version(layout):
    pins: dict[str, str] = {}
    for lock in ("serving.txt", "triton.txt", "llamacpp.txt", "onnx.txt"):
        for line in (SOURCE / "requirements" / lock).read_text().splitlines():
            name, _, version = line.partition(" ")[0].partition("==")
            if version:
                assert pins.setdefault(name, version) == version, f"{lock} has another {name}"
