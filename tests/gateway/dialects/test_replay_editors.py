"""What editors really send, through the running gateway in front of the real server."""

import time

import httpx
import pytest

from testing.servers.gateway import gateway
from tests.gateway.replay import FIM_TEMPLATE, case, cases, events, texts

pytestmark = pytest.mark.triton
EDITORS = "editor_clients.json"


@pytest.fixture(scope="module")
def http(triton):
    with (
        gateway(triton.model_dir, triton.grpc, fim_template=FIM_TEMPLATE) as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        yield client


def send(http: httpx.Client, found: dict, **changes: object) -> httpx.Response:
    request = found["request"]
    body = request.get("body")
    headers = request.get("headers", {})
    return http.request(
        request["method"], request["path"], headers=headers, json=body and {**body, **changes}
    )


@pytest.mark.parametrize("found", cases(EDITORS))
def test_every_editor_gets_an_answer_that_is_no_error(http, found):
    answer = send(http, found)
    assert answer.status_code == 200, answer.text
    assert answer.content


@pytest.mark.parametrize(
    "found",
    cases(EDITORS, "vscode_fauxpilot_inline", "cmp_fauxpilot", "gitlab_workflow_v2", "llama_vscode_openai"),
)
def test_editors_that_read_a_whole_answer_find_choices_with_text_on_one_line(http, found):
    answer = send(http, found)
    assert "\n" not in answer.text
    assert all(isinstance(choice["text"], str) for choice in answer.json()["choices"])


def test_a_single_line_completion_holds_no_line_end(http):
    answer = send(http, case(EDITORS, "vscode_fauxpilot_inline"))
    assert "\n" not in answer.json()["choices"][0]["text"]


def test_copilots_panel_gets_ten_interleaved_choices_each_finished_once(http):
    found = events(send(http, case(EDITORS, "copilot_python_panel"), max_tokens=24))
    assert set(texts(found)) == set(range(10))
    assert len({event["id"] for event in found}) == 1
    assert all(event["created"] > 0 for event in found)


def test_no_part_of_a_stop_string_leaks_into_copilots_panel(http):
    found = case(EDITORS, "copilot_python_panel")
    joined = texts(events(send(http, found, max_tokens=120)))
    for text in joined.values():
        assert not any(stop in text for stop in found["request"]["body"]["stop"])


def test_copilot_gets_the_key_back_that_it_presented(http):
    found = send(http, case(EDITORS, "copilot_token")).json()
    assert found["token"] == "gho_x"
    assert found["expires_at"] > time.time()
    assert found["refresh_in"] > 0
    assert http.get("/copilot_internal/v2/token").json()["token"] == "1"


def test_continue_reads_delta_content(http):
    found = events(send(http, case(EDITORS, "continue_fim"), max_tokens=16))
    assert all(isinstance(event["choices"][0]["delta"]["content"], str) for event in found)
    assert found[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def test_tabby_can_parse_every_event(http):
    found = events(send(http, case(EDITORS, "tabby_openai_completion")))
    assert all({"text", "finish_reason"} <= set(choice) for event in found for choice in event["choices"])


def test_llama_vscode_gets_the_fields_it_asked_for(http):
    assert set(send(http, case(EDITORS, "llama_vscode_infill")).json()) == {"content", "timings/prompt_n"}


def test_twinny_reads_content_and_a_last_event_with_stop(http):
    found = events(send(http, case(EDITORS, "twinny_llamacpp_shape"), max_tokens=16), done=False)
    assert all(isinstance(event["content"], str) for event in found)
    assert [event["stop"] for event in found].count(True) == 1
    assert found[-1]["stop"]


@pytest.mark.parametrize(
    "found", cases("fim_and_goldens.json", "tabby_golden_prime", "tabby_golden_expenses")
)
def test_tabbys_own_plugins_get_choices_for_their_segments(http, found):
    answer = http.post("/v1/completions", json=found["request"]["body"])
    assert answer.status_code == 200, answer.text
    assert {"index", "text"} <= set(answer.json()["choices"][0])


@pytest.mark.parametrize("found", cases("fauxpilot_docs_and_tests.json"))
def test_fauxpilots_documented_requests_are_served(http, found):
    answer = send(http, found)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    assert not choice["text"].startswith(found["request"]["body"]["prompt"])
    assert choice["finish_reason"] in ("stop", "length")


def test_the_greedy_golden_ignores_echo_suffix_and_empty_stop_on_the_legacy_route(http):
    found = case("fauxpilot_docs_and_tests.json", "upstream_ci_greedy_350M_mono")
    plain = http.post(
        "/v1/completions",
        json={"prompt": found["request"]["body"]["prompt"], "max_tokens": 16, "temperature": 0},
    ).json()["choices"][0]
    golden = send(http, found).json()["choices"][0]
    assert golden["text"] == plain["text"]
    assert golden["logprobs"] is None
