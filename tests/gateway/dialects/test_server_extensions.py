"""vLLM's and llama.cpp's extensions of OpenAI's API, through the running gateway with keys."""

import json

import httpx
import pytest

from gateway.auth.keys import create_key
from testing.servers.gateway import gateway
from testing.servers.gateway_process import request_bytes, running_gateway
from testing.until import until
from tests.gateway.replay import events, texts

pytestmark = pytest.mark.triton
PROMPT = "def f(x):"


@pytest.fixture(scope="module")
def running(triton, tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    _, secret = create_key(path, "ada")
    with gateway(triton.model_dir, triton.grpc, auth="keys", keys_file=path) as found:
        yield found.url, secret


@pytest.fixture
def http(running):
    url, secret = running
    with httpx.Client(base_url=url, headers={"X-Api-Key": secret}, timeout=30) as client:
        yield client


def complete(http: httpx.Client, **fields: object) -> httpx.Response:
    body = {"prompt": PROMPT, "max_tokens": 4, "temperature": 0, **fields}
    return http.post("/v1/completions", json=body)


def test_usage_so_far_comes_with_every_chunk_where_it_was_asked_for(http):
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, last = events(complete(http, stream=True, n=2, stream_options=options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == counts[-1] == 8
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {last["usage"]["prompt_tokens"]}


def test_usage_in_every_chunk_needs_the_usage_itself(http):
    options = {"include_usage": False, "continuous_usage_stats": True}
    assert {str(event["usage"]) for event in events(complete(http, stream=True, stream_options=options))} == {
        "None"
    }
    assert complete(http, stream_options=options).status_code == 400


def test_a_stream_names_the_prompts_ids_once_per_choice_and_then_the_new_ones(http):
    whole = complete(http, return_token_ids=True, n=2).json()["choices"]
    found = events(complete(http, return_token_ids=True, n=2, stream=True))
    for choice in whole:
        own = [event["choices"][0] for event in found if event["choices"][0]["index"] == choice["index"]]
        assert [piece.get("prompt_token_ids") for piece in own if "prompt_token_ids" in piece] == [
            choice["prompt_token_ids"]
        ]
        assert [token for piece in own for token in piece["token_ids"]] == choice["token_ids"]


def test_tokens_can_be_written_as_their_ids(http):
    found = complete(http, return_tokens_as_token_ids=True, logprobs=1, return_token_ids=True).json()[
        "choices"
    ][0]
    names = [f"token_id:{token}" for token in found["token_ids"]]
    assert found["logprobs"]["tokens"] == names
    assert [list(top) for top in found["logprobs"]["top_logprobs"]] == [[name] for name in names]


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_regex": "[a-z"}, {"guided_json": {}}, {"guided_choice": ["a"]}, {"guided_grammar": "x"},
        {"structured_outputs": {"regex": "a"}}, {"response_format": {"type": "json_object"}},
        {"allowed_token_ids": [5]}, {"prompt_logprobs": 1}, {"prompt_embeds": "AAAA"}, {"use_beam_search": True},
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_would_be_missed_in_the_answer_is_refused_by_name(http, fields: dict, stream: bool):
    answer = complete(http, stream=stream, **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (
        400,
        "unsupported_parameter",
        next(iter(fields)),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"min_tokens": 2}, {"ignore_eos": True}, {"stop_token_ids": [0]}, {"response_format": {"type": "text"}},
        {"use_beam_search": False}, {"prompt_logprobs": None}, {"add_special_tokens": False}, {"priority": 1},
        {"skip_special_tokens": False}, {"detokenize": True}, {"cache_salt": "x"}, {"request_id": "abc"}, {"min_p": 0.1},
    ],
)  # fmt: skip
def test_what_only_tunes_an_answer_is_tolerated(http, fields: dict):
    assert (
        complete(http, **fields).json()["choices"][0]["text"] == complete(http).json()["choices"][0]["text"]
    )


def test_more_tokens_at_least_than_at_most_is_refused(http):
    assert complete(http, min_tokens=9).status_code == 400


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/models"])
def test_llamacpps_public_routes_need_no_key(running, path: str):
    answer = httpx.get(running[0] + path)
    assert answer.status_code == 200
    assert "error" not in answer.json()


@pytest.mark.parametrize("path", ["/props", "/v1/models"])
def test_what_describes_the_server_needs_a_key(running, http, path: str):
    assert httpx.get(running[0] + path).status_code == 401
    assert http.get(path).status_code == 200


def test_properties_tell_the_context_and_the_model(http):
    found = http.get("/props").json()
    assert found["default_generation_settings"]["n_ctx"] == 2048
    assert found["model_path"] == "tiny-codegen"
    assert found["total_slots"] > 0


@pytest.mark.parametrize("text", [PROMPT, "", "é 日本 \t x", "<|endoftext|>"])
def test_text_becomes_tokens_and_the_same_text_again(http, text: str):
    tokens = http.post("/tokenize", json={"content": text}).json()["tokens"]
    pieces = http.post("/tokenize", json={"content": text, "with_pieces": True}).json()["tokens"]
    assert [piece["id"] for piece in pieces] == tokens
    if text:
        assert http.post("/detokenize", json={"tokens": tokens}).json() == {"content": text}


def test_tokens_of_a_text_are_that_text_as_a_prompt_alone_in_a_batch_and_mixed(http):
    tokens = http.post("/tokenize", json={"content": PROMPT}).json()["tokens"]

    def ask(prompt: object) -> object:
        return http.post("/completion", json={"prompt": prompt, "n_predict": 4, "temperature": 0}).json()

    alone = ask(PROMPT)["content"]
    assert ask(tokens)["content"] == alone
    assert [each["content"] for each in ask([tokens, PROMPT])] == [alone, alone]
    assert isinstance(ask([*tokens, PROMPT, *tokens, PROMPT])["content"], str)


@pytest.mark.parametrize("tokens", [[999_999], [-1], ["x"], [1.5], [True]])
def test_tokens_that_do_not_exist_are_refused(http, tokens: list):
    assert http.post("/detokenize", json={"tokens": tokens}).status_code == 400


@pytest.mark.parametrize("path", ["/completion", "/infill"])
def test_generated_ids_come_where_they_were_asked_for(http, path: str):
    body = {"prompt": PROMPT, "input_prefix": "", "input_suffix": "", "n_predict": 4, "temperature": 0}
    assert http.post(path, json=body).json()["tokens"] == []
    whole = http.post(path, json={**body, "return_tokens": True}).json()
    found = events(http.post(path, json={**body, "return_tokens": True, "stream": True}), done=False)
    assert len(whole["tokens"]) == whole["tokens_predicted"] == 4
    assert [token for event in found for token in event["tokens"]] == whole["tokens"]
    assert http.post("/detokenize", json={"tokens": whole["tokens"]}).json()["content"] == whole["content"]


def test_a_streamed_batch_of_ten_choices_equals_the_whole(http):
    fields = {"n": 10, "temperature": 1, "seed": 3}
    whole = complete(http, **fields).json()["choices"]
    assert texts(events(complete(http, stream=True, **fields))) == {c["index"]: c["text"] for c in whole}


def test_tokens_generated_for_a_client_that_left_are_counted_as_wasted(triton, tmp_path):
    with running_gateway(triton.grpc, tmp_path, wait_for="/ready") as process:
        # Seconds of work.
        asked = {"prompt": PROMPT, "max_tokens": 1900, "n": 8, "seed": 1}
        with process.connect() as connection:
            connection.sendall(request_bytes(json.dumps(asked).encode()))
            until(lambda: process.metric("vllm:num_requests_running") == 1)
        until(lambda: process.metric("assist_requests_cancelled_total") == 1)
        assert process.metric("assist_tokens_wasted_total") < 8 * 1900
