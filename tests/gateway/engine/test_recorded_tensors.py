"""FauxPilot's recorded requests give FauxPilot's tensors, and bodies where the contract keeps them."""

import json

import httpx
import pytest

from tests.gateway.replay import RECORDINGS
from tests.gateway.scripted_triton import Script, tensors

CASES = RECORDINGS / "fauxpilot_http_tensors.json"
RECORDED = json.loads(CASES.read_text("utf-8"))["cases"]
KEPT = ("contract_keep", "tensors_keep_body_may_differ")
# What we answer where FauxPilot's own answer is a defect or a matter of choice; docs/compatibility.md says why.
OURS: dict[str, dict] = {
    "stop_string": {"status": 200, "text": "() {\n    return 1", "finish": "stop"},
    "n_zero": {"status": 400, "param": "n"},
    "logprobs_0": {"status": 200, "logprobs": 3},
    "stream_true_n2": {"status": 200, "sse": True},
    "model_codegen_rejected": {"status": 200, "text": "() {\n    return 1\n\n", "finish": "stop"},
    "model_null": {"status": 200, "text": "() {\n    ", "finish": "length"},
    "prompt_empty": {"status": 200, "input_ids": [[50256]]},
    "prompt_token_ids": {"status": 200, "input_ids": [[1, 2, 3]]},
    "echo_ignored": {"status": 200, "text": "def hello() {\n    ", "finish": "length"},
    "frequency_penalty_zero": {"status": 200, "repetition_penalty": [[1.0]]},
    "triton_unavailable": {"status": 503, "code": "upstream_unavailable"},
    "invalid_json": {"status": 400, "code": "invalid_json"},
    "get_completions": {"status": 405, "code": "method_not_allowed"},
    "docs_root": {"status": 404, "code": "not_found"},
    "health": {"status": 200},
    "temperature_numeric_string": {"status": 200, "temperature": [[0.5]]},
    "prompt_number": {"status": 400, "param": "prompt"},
    "temperature_negative": {"status": 400, "param": "temperature"},
}


def cases(*verdicts: str) -> list:
    return [pytest.param(case, id=case["name"]) for case in RECORDED if case["verdict"] in verdicts]


async def send(client: httpx.AsyncClient, script: Script, case: dict) -> httpx.Response:
    script.text, script.mode = case["fake_triton"]["generated_text"], case["fake_triton"]["mode"]
    script.models = ("fastertransformer", "py-model")
    request = case["request"]
    content = request["raw"] if request["json"] is None else json.dumps(request["json"])
    return await client.request(request["method"], request["path"], content=content)


def comparable(found: list[dict]) -> list[dict]:
    return [{**t, "data": None} if t["name"] == "random_seed" else t for t in found]


@pytest.mark.parametrize("case", cases(*KEPT))
async def test_a_kept_case_sends_the_recorded_tensors_in_order(client, script, case):
    await send(client, script, case)
    expected = [{k: v for k, v in t.items() if k != "compare"} for t in case["triton_inputs"]]
    assert len(script.requests) == 1
    assert script.requests[0].model_name == case["triton_model"]
    assert comparable(tensors(script.requests[0])) == comparable(expected)


@pytest.mark.parametrize("case", cases("contract_keep"))
async def test_a_kept_case_answers_with_the_recorded_body(client, script, case):
    answer = await send(client, script, case)
    recorded, found = case["response"]["json"], answer.json()
    assert answer.status_code == case["response"]["status"]
    assert answer.headers["content-type"] == case["response"]["content_type"]
    assert list(found) == list(recorded)
    assert {**found, "id": 0, "created": 0} == {**recorded, "id": 0, "created": 0}


@pytest.mark.parametrize("case", cases("upstream_defect_do_not_copy", "policy_choice"))
async def test_a_case_that_is_not_kept_gets_our_documented_answer(client, script, case):
    answer = await send(client, script, case)
    ours = OURS[case["name"]]
    assert answer.status_code == ours["status"], answer.text
    if "code" in ours or "param" in ours:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert all(error[key] == ours[key] for key in ("code", "param") if key in ours)
    for name in ("input_ids", "temperature", "repetition_penalty"):
        if name in ours:
            sent = {tensor["name"]: tensor["data"] for tensor in tensors(script.requests[0])}
            assert sent[name] == ours[name]
    if "text" in ours:
        choice = answer.json()["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (ours["text"], ours["finish"])
    if "logprobs" in ours:
        logprobs = answer.json()["choices"][0]["logprobs"]
        assert [len(top) for top in logprobs["top_logprobs"]] == [1] * ours["logprobs"]
    if "sse" in ours:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.text.endswith("data: [DONE]\n\n")
        assert "\r" not in answer.text


def test_the_recording_has_as_many_cases_as_its_verdicts_say():
    assert sum(case["verdict"] in KEPT for case in RECORDED) >= 15


async def test_a_stop_in_the_middle_is_cut_where_fauxpilot_lets_it_through(client, script):
    case = next(case for case in RECORDED if case["name"] == "stop_mid_text_not_cut")
    answer = await send(client, script, case)
    assert answer.json()["choices"][0]["text"] == "(self):\n    pass"
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


async def test_py_model_gets_signed_integers_where_the_server_has_it(client, script):
    script.models = ("fastertransformer", "py-model")
    await client.post("/v1/completions", json={"model": "py-model", "prompt": "def hello", "max_tokens": 2})
    assert script.requests[0].model_name == "py-model"
    assert {t["datatype"] for t in tensors(script.requests[0])} == {"INT32", "FP32", "BOOL"}


async def test_py_model_is_an_alias_where_the_server_has_only_one_model(client, script):
    answer = await client.post("/v1/completions", json={"model": "py-model", "prompt": "x", "max_tokens": 2})
    assert answer.status_code == 200
    assert script.requests[0].model_name == "fastertransformer"
