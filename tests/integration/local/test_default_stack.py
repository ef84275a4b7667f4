"""What the stock stack serves: its real model answers every editor, and uses what is behind the cursor."""

import json
from collections.abc import Iterator

import httpx
import pytest

from assist.paths import SOURCE
from serving.model_repository import Repository, generate
from stackfile import load_stack
from stackfile.environment import GatewayPaths, gateway_environment
from testing import models, needs
from testing.servers.gateway_process import running_gateway
from testing.servers.triton import Triton, require_triton
from tests.gateway.replay import case, cases, events, texts

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(2400)]

EDITORS = "editor_clients.json"
# Enough for a shape; the recorded limits would take minutes of a slow machine.
TOKENS = 16
ABOVE, BELOW = "def add(a, b):\n    ", "\n\n\nprint(add(2, 3))\n"
FILE = {"file_name": "main.py", "content_above_cursor": ABOVE, "content_below_cursor": BELOW}
# What belongs to a machine: here the test's own addresses, and no deadline.
MACHINE = {"host", "metrics_host", "metrics_port", "engine_url", "auth", "keys_file"}


def serve(stack, folder) -> Iterator[httpx.Client]:
    """Run Triton and the gateway with the settings of a stack, and give a client."""
    require_triton()
    needs.package("xllamacpp")
    model = models.fetched(stack.model.id)
    served = {name: getattr(stack, name) for name in ("runtime", "precision", "context_length")}
    generate(folder / "repository", Repository(model_dir=model, **served))
    environment = gateway_environment(stack, GatewayPaths(model, folder / "keys.json"))
    settings = {name.removeprefix("ASSIST_").lower(): value for name, value in environment.items()}
    own = {name: settings[name] for name in settings.keys() - MACHINE - {"api_external_port"}}
    server = Triton(folder / "repository", model, folder / "triton.log")
    try:
        server.start()
        with (
            running_gateway(server.grpc, folder, "/ready", **own | {"deadline_s": 1200}) as gateway,
            httpx.Client(base_url=gateway.url, timeout=1200, trust_env=False) as client,
        ):
            yield client
    finally:
        server.kill()


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    yield from serve(load_stack(SOURCE / "stacks/local.yaml"), tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module")
def smollm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm")
    file = folder / "smollm.yaml"
    file.write_text(
        "name: smollm\ntarget: local\nmodel: smollm2-135m-instruct-Q4_1\ncontext_length: 1024\n"
        "accelerator: {kind: cpu}\n"
    )
    yield from serve(load_stack(file), folder)


def send(http: httpx.Client, found: dict, **changes: object) -> httpx.Response:
    """Send a recorded request: greedy, and for a few tokens."""
    request = found["request"]
    body = request.get("body")
    if body is not None:
        few = {name: min(body[name], TOKENS) for name in ("max_tokens", "n_predict") if name in body}
        body = body | few | ({"temperature": 0} if "temperature" in body else {}) | changes
    return http.request(request["method"], request["path"], headers=request.get("headers", {}), json=body)


def written(answer: httpx.Response, *, done: bool = True) -> str:
    """Return what the model wrote, of the first choice, in whichever dialect it is."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        return "".join(_text(event) for event in events(answer, done=done))
    return _text(answer.json())


def _text(document: dict) -> str:
    if "content" in document:
        return document["content"]
    choice = document["choices"][0]
    if choice.get("index", 0) != 0:
        return ""
    if "text" in choice:
        return choice["text"]
    return choice["message" if "message" in choice else "delta"].get("content") or ""


@pytest.mark.parametrize(
    "found",
    cases(
        EDITORS, "vscode_fauxpilot_inline", "cmp_fauxpilot", "gitlab_workflow_v2", "continue_fim",
        "tabby_openai_completion", "llama_vscode_infill", "llama_vscode_openai",
    ),
)  # fmt: skip
def test_every_editor_gets_code(http, found):
    assert written(send(http, found)).strip()


def test_twinny_gets_code_and_one_last_event(http):
    answer = send(http, case(EDITORS, "twinny_llamacpp_shape"))
    assert written(answer, done=False).strip()
    assert [event["stop"] for event in events(answer, done=False)].count(True) == 1


def test_copilots_panel_gets_ten_choices(http):
    found = texts(events(send(http, case(EDITORS, "copilot_python_panel"))))
    assert set(found) == set(range(10))


def test_copilot_gets_a_token(http):
    assert send(http, case(EDITORS, "copilot_token")).json()["token"] == "gho_x"


def test_a_recording_without_a_test_is_noticed():
    assert len(cases(EDITORS)) == 10


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": ABOVE, "suffix": BELOW}),
        ("/v1/completions", {"segments": {"prefix": ABOVE, "suffix": BELOW}}),
        ("/v1/completions", {"prompt": ABOVE, "suffix": BELOW, "stream": True}),
        ("/v1/fim/completions", {"prompt": ABOVE, "suffix": BELOW}),
        ("/v1/engines/codegen/completions", {"prompt": ABOVE, "suffix": BELOW}),
        ("/infill", {"input_prefix": ABOVE, "input_suffix": BELOW}),
        (
            "/v2/completions",
            {"prompt_version": 1, "project_path": "", "project_id": -1, "current_file": FILE},
        ),
    ],
)
def test_every_dialect_fills_in_between_what_is_above_and_below_the_cursor(http, path, body):
    limits = {"max_tokens": TOKENS, "n_predict": TOKENS, "temperature": 0, "stop": ["\n"]}
    text = written(http.post(path, json=body | limits))
    assert text.strip().startswith("return a + b"), "not what a person would accept"


def test_the_suffix_is_in_the_prompt_that_the_model_reads(http):
    def read(**more: str) -> int:
        body = {"prompt": ABOVE, "max_tokens": 1, **more}
        return http.post("/v1/completions", json=body).json()["usage"]["prompt_tokens"]

    assert read(suffix=BELOW) > read(suffix="\n") > read()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("service", ["http", "smollm"])
def test_instruction_models_chat(request, service, stream):
    talk = [{"role": "user", "content": "Say hello."}]
    body = {"messages": talk, "max_tokens": TOKENS, "temperature": 0, "stream": stream}
    answer = request.getfixturevalue(service).post("/v1/chat/completions", json=body)
    if not stream:
        assert answer.json()["choices"][0]["finish_reason"] in ("stop", "length"), json.dumps(answer.json())
    assert written(answer).strip()
