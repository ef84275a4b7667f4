"""A suffix is used, or refused with the remedy, or ignored as the original did and said so: never dropped."""

import httpx
import pytest

from gateway.app import create_app
from testing import needs
from testing.doubles.instant_engine import InstantEngine
from tests.gateway.conftest import settings
from tests.gateway.scripted_triton import tensors

SUFFIX = "\n    return total"
P = {"prompt": "def f", "max_tokens": 4}
FILE = {"file_name": "main.py", "content_above_cursor": "def f", "content_below_cursor": SUFFIX}
CURRENT = {"current_file": FILE, "project_path": "a/b", "project_id": 1}
COMPONENTS = {"prompt_components": [{"type": "code_editor_completion", "payload": FILE}]}
REFUSED = [
    ("/v1/completions", {**P, "suffix": SUFFIX}, "suffix"),
    ("/v1/completions", {**P, "suffix": SUFFIX, "stream": True}, "suffix"),
    ("/v1/completions", {**P, "prompt": [1, 2], "suffix": SUFFIX}, "suffix"),
    ("/v1/fim/completions", {**P, "suffix": SUFFIX}, "suffix"),
    ("/infill", {"input_prefix": "def f", "input_suffix": SUFFIX}, "input_suffix"),
    ("/infill", {"input_prefix": "def f", "input_suffix": SUFFIX, "n_predict": 0}, "input_suffix"),
]
IGNORED = {
    "fauxpilot": ("/v1/engines/codegen/completions", {**P, "suffix": SUFFIX}),
    "copilot": ("/v1/engines/copilot-codex/completions", {**P, "suffix": SUFFIX, "nwo": "a/b"}),
    "tabby": ("/v1/completions", {"segments": {"prefix": "def f", "suffix": SUFFIX}, "max_tokens": 4}),
    "gitlab_v2_2023": ("/v2/completions", {"prompt_version": 1, **CURRENT}),
    "gitlab_v2": ("/v2/code/completions", {"prompt_version": 1, **CURRENT}),
    "gitlab_v3": ("/v3/code/completions", COMPONENTS),
    "gitlab_v4": ("/v4/code/suggestions", COMPONENTS),
}


def prompt_of(script, codegen) -> str:
    sent = {tensor["name"]: tensor["data"] for tensor in tensors(script.requests[-1])}
    return codegen.decode(sent["input_ids"][0])


def ignored(client: httpx.AsyncClient) -> float:
    registry = client._transport.app.state.completion_service.metrics.registry
    return registry.get_sample_value("assist_parameters_ignored_total", {"parameter": "suffix"}) or 0


@pytest.mark.parametrize(("path", "body", "param"), REFUSED)
async def test_a_model_that_cannot_use_it_refuses_it_with_the_remedy(client, script, path, body, param):
    answer = await client.post(path, json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, "unsupported_parameter")
    assert f"Leave out {param}" in error["message"]
    assert not script.requests
    assert "x-assist-ignored" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", IGNORED)
async def test_where_clients_send_it_blindly_it_is_ignored_and_the_answer_says_so(
    client, script, codegen, dialect, stream
):
    path, body = IGNORED[dialect]
    answer = await client.post(path, json={**body, "stream": stream})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-assist-ignored"] == "suffix"
    assert ignored(client) == 1
    assert prompt_of(script, codegen).endswith("def f")


@pytest.mark.parametrize("dialect", IGNORED)
async def test_an_empty_one_is_none(client, dialect):
    path, body = IGNORED[dialect]
    text = httpx.Response(200, json=body).text.replace(SUFFIX.replace("\n", "\\n"), "")
    answer = await client.post(path, content=text)
    assert answer.status_code == 200, answer.text
    assert "x-assist-ignored" not in answer.headers
    assert ignored(client) == 0


async def test_an_empty_infill_continues_the_prefix(client, script, codegen):
    answer = await client.post("/infill", json={"input_prefix": "def f", "input_suffix": "", "n_predict": 4})
    assert answer.status_code == 200
    assert prompt_of(script, codegen) == "def f"


@pytest.mark.parametrize("path_and_body", [*IGNORED.values(), *(each[:2] for each in REFUSED[:5])], ids=str)
async def test_a_model_that_can_uses_it_in_every_dialect(fake, codegen_dir, codegen, script, path_and_body):
    path, body = path_and_body
    app = create_app(
        settings(model_dir=codegen_dir, engine_url=fake, fim_template="<P>{prefix}<S>{suffix}<M>")
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as fim:
        answer = await fim.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert f"<S>{SUFFIX}<M>" in prompt_of(script, codegen)
    assert "x-assist-ignored" not in answer.headers
    await app.state.completion_service.completer.close()


@pytest.mark.parametrize(("template", "status"), [(None, 200), ("none", 400)])
async def test_tokens_in_the_vocabulary_are_no_proof_where_the_settings_say_none(tmp_path, template, status):
    needs.package("xllamacpp")
    from testing import gguf_files
    from tests.gateway.text.test_llama_tokenizer import FIM

    gguf_files.vocabulary_only(tmp_path / "model.gguf", "qwen2", FIM)
    app = create_app(settings(model_dir=tmp_path, fim_template=template), InstantEngine())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as http:
        answer = await http.post("/v1/completions", json={**P, "suffix": SUFFIX})
    assert answer.status_code == status, answer.text
