"""vLLM's and llama.cpp's own server tests, and OpenAI's client tests, through the running gateway."""

import httpx
import openai
import pytest

from testing.servers.gateway import gateway
from tests.gateway.replay import FIM_TEMPLATE, case, cases, events, texts

pytestmark = pytest.mark.triton
VLLM, LLAMA, OPENAI = "vllm_completions.json", "llamacpp_server.json", "openai_python.json"
BAD = ("stream_options_without_stream_null", "empty_prompt", "out_of_vocab", "negative_ids_nested")


@pytest.fixture(scope="module")
def running(triton):
    with gateway(triton.model_dir, triton.grpc, fim_template=FIM_TEMPLATE) as found:
        yield found


@pytest.fixture
def http(running):
    with httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


def complete(http: httpx.Client, name: str, **changes: object) -> dict:
    answer = http.post("/v1/completions", json={**case(VLLM, name)["body"], **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_single(http):
    found = complete(http, "single")
    assert [choice["finish_reason"] for choice in found["choices"]] == ["length"]
    assert found["usage"]["completion_tokens"] == 5
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + 5


def test_null_logprobs_are_null(http):
    assert complete(http, "logprobs_none")["choices"][0]["logprobs"] is None


def test_five_logprobs_list_the_chosen_token_only_and_invent_none(http):
    found = complete(http, "logprobs_5")["choices"][0]["logprobs"]
    assert {len(top) for top in found["top_logprobs"]} == {1}
    assert all(value < 0 for value in found["token_logprobs"])


def test_too_many_logprobs_are_refused_before_the_stream_and_the_server_still_serves(http):
    assert (
        http.post("/v1/completions", json=case(VLLM, "logprobs_too_many_stream")["body"]).status_code == 400
    )
    complete(http, "single")


def test_three_choices_differ_and_reproduce_under_their_seed(http):
    found, again = complete(http, "n3"), complete(http, "n3")
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2]
    assert len({choice["text"] for choice in found["choices"]}) == 3
    assert all(choice["finish_reason"] for choice in found["choices"])
    assert [c["text"] for c in again["choices"]] == [c["text"] for c in found["choices"]]


@pytest.mark.parametrize("found", cases(VLLM, "stream_options_false", "stream_options_empty"))
def test_usage_is_null_in_every_chunk_unless_it_was_asked_for(http, found):
    answer = http.post("/v1/completions", json=found["body"])
    assert all(event["usage"] is None for event in events(answer))


def test_usage_comes_in_a_last_chunk_without_choices(http):
    answer = http.post(
        "/v1/completions",
        json={"prompt": "x", "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}},
    )
    *others, last = events(answer)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] > 0
    assert all(event["usage"] is None for event in others)


def test_equal_token_prompts_in_a_batch_give_equal_texts(http):
    found = complete(http, "batch_token_prompts")["choices"]
    assert len(found) == 2
    assert found[0]["text"] == found[1]["text"]


def test_a_streamed_batch_has_one_choice_per_chunk_and_equal_texts(http):
    found = events(http.post("/v1/completions", json=case(VLLM, "batch_stream")["body"]))
    assert all(len(event["choices"]) == 1 for event in found)
    joined = texts(found)
    assert joined[0] == joined[1]


@pytest.mark.parametrize("found", cases(VLLM, *BAD))
def test_a_bad_request_is_a_400_with_the_envelope(http, found):
    answer = http.post("/v1/completions", json=found["body"])
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert found["expect"].get("message_contains", "") in answer.json()["error"]["message"]


def test_truncation_on_the_right_keeps_the_first_tokens(http):
    found = complete(http, "truncate_right")
    assert found["choices"][0]["prompt_token_ids"] == case(VLLM, "truncate_right")["expect"]["kept"]


@pytest.mark.parametrize(
    "found", cases(LLAMA, "infill", "infill_bad_extra_0", "infill_bad_extra_2", "infill_bad_extra_4")
)
def test_infill(http, found):
    answer = http.post("/infill", json=found["body"])
    assert answer.status_code == found["expect"]["status"]
    assert ("content" if answer.status_code == 200 else "error") in answer.json()


def test_a_mixed_batch_of_ids_and_text_gives_a_list(http):
    found = http.post("/completion", json={**case(LLAMA, "mixed_batch")["body"], "n_predict": 4}).json()
    assert [each["index"] for each in found] == [0, 1]


def test_ids_and_text_in_one_list_are_one_prompt(http):
    found = http.post("/completion", json={"prompt": [1, 2, "I believe"], "n_predict": 4}).json()
    assert isinstance(found["content"], str)


def test_the_same_seed_gives_the_same_content(http):
    found = case(LLAMA, "same_seed")
    answers = [
        http.post("/completion", json={**found["body"], "n_predict": 8}).json()
        for _ in range(found["repeat"])
    ]
    assert len({answer["content"] for answer in answers}) == 1


def test_no_prediction_warms_up_without_work(http):
    found = http.post("/infill", json={"input_prefix": "a", "input_suffix": "b", "n_predict": 0}).json()
    assert (found["content"], found["tokens_predicted"]) == ("", 0)


def test_the_openai_client_gets_a_completion_for_a_well_known_model_name(running):
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")
    body = case(LLAMA, "openai_client")["body"]
    assert client.completions.create(**body, temperature=0).choices[0].finish_reason == "length"
    assert client.completions.create(**case(OPENAI, "required_only")["body"]).object == "text_completion"


def test_the_openai_client_streams_with_every_parameter_set(running):
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")
    body = case(OPENAI, "all_params_stream")["body"]
    chunks = list(client.completions.create(**body))
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text.startswith(body["prompt"])
    assert chunks[-1].usage.total_tokens > 0


def test_the_openai_client_lists_models_and_sees_errors_as_its_own(running):
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["tiny-codegen"]
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nobody", prompt="x")
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model="codegen", prompt="x", temperature=9)


@pytest.mark.parametrize(
    "body", [{"temperature": 0}, {"seed": 5}, {"temperature": 0, "stop": ["\n"], "logprobs": 1}]
)
@pytest.mark.parametrize("prompt", ["def add(a, b):\n", ["class A:\n", "import "]])
def test_a_stream_adds_up_to_the_whole_answer(http, body, prompt):
    request = {"prompt": prompt, "max_tokens": 40, "n": 2, **body}
    whole = http.post("/v1/completions", json=request).json()
    found = events(
        http.post(
            "/v1/completions", json={**request, "stream": True, "stream_options": {"include_usage": True}}
        )
    )
    assert texts(found) == {choice["index"]: choice["text"] for choice in whole["choices"]}
    assert found[-1]["usage"] == whole["usage"]
