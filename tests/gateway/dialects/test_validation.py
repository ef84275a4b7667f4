"""Bad requests get errors with a remedy; odd requests of editors are served."""

import httpx
import pytest

from gateway.app import create_app
from tests.gateway.conftest import settings
from tests.gateway.replay import events
from tests.gateway.scripted_triton import tensors

SERVED = "codegen-350M-mono"
P = {"prompt": "def f", "max_tokens": 4}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({**P, "max_tokens": -1}, "max_tokens"),
        ({**P, "max_tokens": 1.5}, "max_tokens"),
        ({**P, "max_tokens": True}, "max_tokens"),
        ({**P, "temperature": 2.1}, "temperature"),
        ({**P, "top_p": 1.1}, "top_p"),
        ({**P, "n": 0}, "n"),
        ({**P, "n": 21}, "n"),
        ({**P, "n": 3, "best_of": 2}, "best_of"),
        ({**P, "n": 1, "best_of": 2, "stream": True}, "best_of"),
        ({**P, "logprobs": -1}, "logprobs"),
        ({**P, "logprobs": 6}, "logprobs"),
        ({**P, "seed": 2**63}, "seed"),
        ({**P, "stop": ["x"] * 65}, "stop"),
        ({**P, "stop": "x" * 257}, "stop"),
        ({**P, "stop": [1]}, "stop"),
        ({**P, "logit_bias": {"a": 1}}, "logit_bias"),
        ({**P, "logit_bias": {"1": 101}}, "logit_bias"),
        ({**P, "frequency_penalty": 3}, "frequency_penalty"),
        ({**P, "repetition_penalty": 0}, "repetition_penalty"),
        ({**P, "stream_options": {"include_usage": True}}, "stream_options"),
        ({**P, "model": 5}, "model"),
        ({**P, "truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
    ],
    ids=str,
)
async def test_a_wrong_value_is_a_400_that_names_its_parameter(client, body, param):
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        {
            "model": "",
            "n": None,
            "max_tokens": None,
            "stop": None,
            "logprobs": None,
            "suffix": None,
            "echo": None,
        },
        {"max_tokens": 10**12},
        {"stop": [f"stop{i}" for i in range(12)]},
        {"stop": ""},
        {"stop": ["", ""]},
        {"keep_alive": 5, "options": {}, "extra": {"x": []}, "nwo": "a/b"},
        {"best_of": 0},
        {"presence_penalty": 1, "frequency_penalty": -2, "logit_bias": {"50256": -100}, "user": "u"},
        {"suffix": ""},
        {"prompt": "nul \u0000 in the text"},
        {"stream": False},
    ],
    ids=str,
)
async def test_what_editors_send_is_served(client, body):
    answer = await client.post("/v1/completions", json={**P, **body})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["gpt-4", "x" * 5000, "../etc/passwd"])
async def test_an_unknown_model_is_404_in_the_envelope(client, name):
    answer = await client.post("/v1/completions", json={**P, "model": name})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert len(answer.text) < 400


async def test_the_legacy_route_takes_any_model_because_its_url_names_one(client):
    answer = await client.post(
        "/v1/engines/codegen/completions", json={**P, "model": "anything", "best_of": 1, "n": 3}
    )
    assert answer.status_code == 200
    assert len(answer.json()["choices"]) == 3
    assert answer.json()["model"] == "codegen"


@pytest.mark.parametrize(
    ("name", "answered"),
    [
        (None, "codegen"),
        ("", "codegen"),
        (SERVED, SERVED),
        ("davinci-002", "davinci-002"),
        ("codegen", "codegen"),
        ("fastertransformer", "codegen"),
        ("gitlab", "codegen"),
    ],
)
async def test_the_answer_names_the_served_model_and_only_fauxpilots_clients_see_its_own_name(
    client, name, answered
):
    answer = await client.post("/v1/completions", json={**P, "model": name})
    fim = await client.post("/v1/fim/completions", json={**P, "model": name})
    assert answer.json()["model"] == answered
    assert fim.json()["model"] == (name or SERVED)


async def test_frequency_penalty_never_becomes_repetition_penalty(client, script):
    await client.post("/v1/completions", json={**P, "frequency_penalty": 1.5})
    assert {t["name"]: t["data"] for t in tensors(script.requests[0])}["repetition_penalty"] == [[1.0]]


async def test_the_extensions_reach_the_engine(client, script):
    await client.post(
        "/v1/completions", json={**P, "repetition_penalty": 1.5, "top_k": 7, "seed": 11, "n": 2}
    )
    sent = {t["name"]: t["data"] for t in tensors(script.requests[0])}
    assert sent["repetition_penalty"] == [[1.5], [1.5]]
    assert sent["runtime_top_k"] == [[7], [7]]
    assert sent["random_seed"] == [[11], [12]]


async def test_best_of_makes_more_rows_and_counts_them(client, script):
    answer = await client.post("/v1/completions", json={**P, "best_of": 3})
    assert len(answer.json()["choices"]) == 1
    assert answer.json()["usage"]["completion_tokens"] == 12
    assert tensors(script.requests[0])[0]["shape"][0] == 3


async def test_a_language_tag_is_put_before_gitlabs_prompt(client, script, codegen):
    file = {"file_name": "main.py", "content_above_cursor": "# Create\n", "content_below_cursor": "\n"}
    await client.post("/v2/completions", json={"current_file": file})
    sent = {t["name"]: t["data"] for t in tensors(script.requests[0])}
    assert codegen.decode(sent["input_ids"][0]) == "<python># Create\n"


@pytest.mark.parametrize("field", ["frequency_penalty", "presence_penalty"])
async def test_strict_settings_refuse_what_has_no_effect(fake, codegen_dir, field):
    app = create_app(settings(model_dir=codegen_dir, engine_url=fake, strict=True))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as strict:
        answer = await strict.post("/v1/completions", json={**P, field: 0.5})
        too_long = await strict.post("/v1/completions", json={"prompt": "def hello", "max_tokens": 2047})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert too_long.json()["error"]["message"] == (
        "This model's maximum context length is 2048, however you requested 2049 tokens (2 in your prompt; "
        "2047 for the completion). Please reduce your prompt; or completion length."
    )
    await app.state.completion_service.completer.close()


async def test_a_backend_that_is_down_is_503_with_retry_after_on_every_dialect(client, script):
    script.mode = "unavailable"
    file = {"file_name": "a.py", "content_above_cursor": "x", "content_below_cursor": ""}
    for path, body in [
        ("/v1/completions", P),
        ("/completion", P),
        ("/v2/completions", {"current_file": file}),
    ]:
        for stream in (False, True):
            answer = await client.post(path, json={**body, "stream": stream})
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert ("detail" in answer.json()) == path.startswith("/v2")


async def test_a_suffix_reaches_a_model_with_a_template_and_sentinels_end_its_text(
    fake, codegen_dir, codegen, script
):
    template = '{"template": "<P>{prefix}<S>{suffix}<M>", "stop": ["<P>", "<S>", "<M>"]}'
    script.text = "return 1<P>more"
    app = create_app(settings(model_dir=codegen_dir, engine_url=fake, fim_template=template))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://g") as fim:
        answer = await fim.post(
            "/v1/completions", json={"prompt": "def <S>f", "suffix": "\n", "max_tokens": 16}
        )
    sent = {t["name"]: t["data"] for t in tensors(script.requests[0])}
    assert codegen.decode(sent["input_ids"][0]) == "<P>def f<S>\n<M>"
    assert answer.json()["choices"][0]["text"] == "return 1"
    await app.state.completion_service.completer.close()


async def test_more_tokens_than_the_context_cannot_be_kept(client):
    answer = await client.post("/v1/completions", json={**P, "truncate_prompt_tokens": 4096})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "truncate_prompt_tokens")


async def test_offsets_count_from_the_prompts_length_and_agree_in_a_stream(client):
    body = {"prompt": "def hello", "max_tokens": 7, "logprobs": 1, "stop": ["\n\n"]}
    whole = (await client.post("/v1/completions", json=body)).json()["choices"][0]
    chunks = events(await client.post("/v1/completions", json={**body, "stream": True}))
    offsets = [o for chunk in chunks for o in chunk["choices"][0]["logprobs"]["text_offset"]]
    assert whole["text"] == "() {\n    return 1"
    assert offsets == whole["logprobs"]["text_offset"]
    assert offsets[0] == len("def hello")
    assert "".join(whole["logprobs"]["tokens"]) == whole["text"]
