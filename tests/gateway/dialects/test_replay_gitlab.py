"""GitLab's requests of 2023 and of today, with their limits and their authentication."""

import httpx
import pytest

from gateway.auth.keys import create_key
from testing.servers.gateway import gateway
from tests.gateway.replay import case, cases

pytestmark = pytest.mark.triton
OLD, NOW, LLAMA = "gitlab_2023_codegen.json", "gitlab_gateway_current.json", "llamacpp_server.json"


@pytest.fixture(scope="module")
def http(triton):
    with (
        gateway(triton.model_dir, triton.grpc) as running,
        httpx.Client(base_url=running.url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def asking_gitlab(triton):
    """Run a gateway whose GitLab is a closed port: a request that gets 401 here was refused before the check."""
    changes = {"auth": "gitlab", "gitlab_api_url": "http://127.0.0.1:9/api/v4/"}
    with gateway(triton.model_dir, triton.grpc, **changes) as running:
        yield running.url


@pytest.fixture(scope="module")
def with_keys(triton, tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    _, secret = create_key(path, "ada")
    with gateway(triton.model_dir, triton.grpc, auth="keys", keys_file=path) as running:
        yield running.url, secret


def send(http: httpx.Client, found: dict) -> httpx.Response:
    request = found["request"]
    return http.request(
        request["method"], request["path"], headers=request.get("headers", {}), json=request.get("body")
    )


def body(**changes: object) -> dict:
    file = {"file_name": "main.py", "content_above_cursor": "def f():\n", "content_below_cursor": ""}
    return {"current_file": {**file, **changes.pop("file", {})}, **changes}


def test_version_2_of_2023_names_the_language_and_says_length(http):
    found = case(OLD, "v2_completions_minimal")
    answer = send(http, found).json()
    assert answer["object"] == "text_completion"
    assert answer["model"]["lang"] == "python"
    assert {key: answer["choices"][0][key] for key in ("index", "finish_reason")} == {
        "index": 0,
        "finish_reason": "length",
    }


@pytest.mark.parametrize("found", cases(NOW, "v2_code_completions", "v3_completion"))
def test_a_present_completion_has_the_recorded_keys(http, found):
    answer = send(http, found)
    assert answer.status_code == 200, answer.text
    document, expected = answer.json(), found["expect"]
    assert set(expected["json_keys"]) <= set(document)
    assert set(expected.get("model_keys", ())) <= set(document.get("model", ()))
    assert set(expected.get("metadata_keys", ())) <= set(document.get("metadata", ()))
    for choice in document["choices"]:
        assert choice["text"]
        assert (choice["index"], choice["finish_reason"]) == (0, "length")


def test_a_stream_is_plain_text_under_an_event_stream_header(http):
    found = case(NOW, "v2_stream")
    answer = send(http, found)
    assert answer.headers["content-type"] == found["expect"]["content_type"]
    assert "data:" not in answer.text


def test_version_4_names_its_events(http):
    component = {"type": "code_editor_completion", "payload": {**body()["current_file"], "stream": True}}
    answer = http.post("/v4/code/suggestions", json={"prompt_components": [component]})
    assert answer.headers["x-streaming-format"] == "sse"
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event")]
    assert (names[0], names[-1]) == ("stream_start", "stream_end")
    assert set(names[1:-1]) <= {"content_chunk"}
    assert answer.text.endswith("event: stream_end\ndata: null\n\n")


CONTEXT = {"type": "file", "name": "o.py", "content": "x"}
LIMITS = [
    ("file_name", lambda n: body(file={"file_name": "a" * n}), 255),
    ("above", lambda n: body(file={"content_above_cursor": "a" * n}), 100_000),
    ("below", lambda n: body(file={"content_below_cursor": "a" * n}), 100_000),
    ("language", lambda n: body(file={"language_identifier": "a" * n}), 255),
    ("project_path", lambda n: body(project_path="a" * n), 255),
    ("context", lambda n: body(context=[CONTEXT] * n), 100),
    ("context name", lambda n: body(context=[{**CONTEXT, "name": "a" * n}]), 1024),
    ("telemetry", lambda n: body(telemetry=[{}] * n), 10),
    ("model_name", lambda n: body(model_name="a" * n), 50),
]


@pytest.mark.parametrize(
    ("make", "limit"), [limit[1:] for limit in LIMITS], ids=[limit[0] for limit in LIMITS]
)
def test_a_limit_lets_its_value_through_and_refuses_one_more(http, make, limit):
    assert http.post("/v2/code/completions", json=make(limit)).status_code == 200
    refused = http.post("/v2/code/completions", json=make(limit + 1))
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize(("count", "status"), [(0, 422), (1, 200), (100, 200), (101, 422)])
def test_version_3_takes_1_to_100_components(http, count, status):
    editor = {"type": "code_editor_completion", "payload": body()["current_file"]}
    components = ([editor] + [{"type": "code_context", "payload": CONTEXT}] * 100)[:count]
    if count > 100:
        components.append(components[-1])
    answer = http.post("/v3/code/completions", json={"prompt_components": components})
    assert answer.status_code == status


def test_a_file_name_of_256_characters_is_the_recorded_422(http):
    assert send(http, case(NOW, "v2_file_name_256")).status_code == 422


@pytest.mark.parametrize("version", [2, 3])
def test_a_generation_needs_a_prompt_from_version_2_on(http, version):
    assert http.post("/v2/code/generations", json=body(prompt_version=version)).status_code == 422
    prompt = "# add" if version == 2 else [{"role": "user", "content": "# add"}]
    answer = http.post("/v2/code/generations", json=body(prompt_version=version, prompt=prompt))
    assert answer.status_code == 200


@pytest.mark.parametrize("file", [OLD, NOW])
def test_liveness_needs_no_key(asking_gitlab, file):
    found = case(file, "healthz")
    assert httpx.get(asking_gitlab + found["request"]["path"]).status_code == 200


@pytest.mark.parametrize(("file", "name"), [(OLD, "auth_missing"), (NOW, "missing_auth")])
def test_a_missing_header_is_gitlabs_401_before_the_body_is_read(asking_gitlab, file, name):
    found = case(file, name)
    answer = httpx.post(asking_gitlab + found["request"]["path"], content=b"{not json")
    assert (answer.status_code, answer.json()) == (found["expect"]["status"], found["expect"]["json"])


def test_gitlab_out_of_reach_is_a_503_and_opens_no_door(asking_gitlab):
    for _ in range(3):
        answer = httpx.post(
            f"{asking_gitlab}/v2/completions", json=body(), headers={"Authorization": "Bearer x"}, timeout=10
        )
        assert answer.status_code == 503
        assert "detail" in answer.json()


def test_with_keys_gitlabs_clients_are_refused_in_gitlabs_words(with_keys):
    found = case(NOW, "missing_auth")
    url = with_keys[0] + found["request"]["path"]
    answer = httpx.post(url, json=body())
    assert (answer.status_code, answer.json()) == (found["expect"]["status"], found["expect"]["json"])
    denied = httpx.post(url, json=body(), headers={"Authorization": "Bearer 12345"})
    expected = case(OLD, "auth_denied_by_provider")["expect"]
    assert (denied.status_code, denied.json()) == (expected["status"], expected["json"])


@pytest.mark.parametrize("telemetry", [[5], {}, [{"model_engine": "a" * 51}]])
def test_telemetry_of_another_shape_is_refused(http, telemetry):
    assert http.post("/v2/code/completions", json=body(telemetry=telemetry)).status_code == 422


def test_llamacpps_clients_need_their_key_on_completions(with_keys):
    url, secret = with_keys
    refused = httpx.post(f"{url}/completions", json={"prompt": "x"})
    expected = case(LLAMA, "no_key")["expect"]
    assert refused.status_code == expected["status"]
    assert refused.json()["error"]["type"] == expected["error.type"]
    headers = {"Authorization": f"Bearer {secret}"}
    answer = httpx.post(f"{url}/completions", json={"prompt": "x", "n_predict": 2}, headers=headers)
    assert answer.status_code == case(LLAMA, "good_key")["expect"]["status"]


def test_a_browsers_preflight_is_answered_without_a_key(with_keys):
    found = case(LLAMA, "cors_preflight")
    answer = httpx.request(found["method"], with_keys[0] + found["path"], headers=found["headers"])
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Headers"] == found["expect"]["Access-Control-Allow-Headers"]
