"""Authentication as GitLab's gateways of 2022, 2023 and today recorded it: the running gateway and its GitLab's doubles."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from testing.doubles.fake_gitlab import FakeGitLab
from testing.doubles.fake_issuer import FakeIssuer
from testing.servers.gateway import gateway
from testing.until import until
from tests.gateway.replay import case

pytestmark = pytest.mark.triton
SEED, OLD, NOW = "gitlab_token_auth_2022.json", "gitlab_2023_codegen.json", "gitlab_gateway_current.json"
TOKEN = {"Authorization": "Bearer glpat-1"}


@contextlib.contextmanager
def served(triton, **changes: object) -> Iterator[str]:
    with gateway(triton.model_dir, triton.grpc, auth="gitlab", **changes) as running:
        yield running.url


def ask(url: str, headers: dict[str, str] = TOKEN) -> httpx.Response:
    body = {"prompt": "def f():", "max_tokens": 2}
    return httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=60)


def statuses(url: str, headers: dict[str, str] = TOKEN) -> list[int]:
    """Ask three times, as the recording did: its bug showed on the second call."""
    return [ask(url, headers).status_code for _ in range(3)]


def test_an_allowed_token_is_served_and_gitlab_asked_once(triton, gitlab: FakeGitLab):
    found = case(SEED, "allowed")
    gitlab.status, gitlab.reply = found["gitlab"]["status"], found["gitlab"]["json"]
    with served(triton, gitlab_api_url=gitlab.url) as url:
        assert statuses(url) == [200, 200, 200]
    assert len(gitlab.calls) == found["gitlab_calls"]
    assert gitlab.calls[0] == ("/api/v4/ml/ai-assist", TOKEN["Authorization"])


@pytest.mark.parametrize("name", ["unauthorized", "truthy_not_true"])
def test_a_token_that_gitlab_does_not_allow_is_denied_on_every_call(triton, gitlab: FakeGitLab, name: str):
    found = case(SEED, name)
    gitlab.status, gitlab.reply = found["gitlab"]["status"], found["gitlab"]["json"]
    with served(triton, gitlab_api_url=gitlab.url) as url:
        assert statuses(url) == [401, 401, 401]


def test_an_outage_of_gitlab_is_a_503_on_every_call_and_opens_no_door(triton, gitlab: FakeGitLab):
    assert "503" in case(SEED, "gitlab_down")["expect"]
    gitlab.close()
    with served(triton, gitlab_api_url=gitlab.url) as url:
        assert statuses(url) == [503, 503, 503]


def test_a_gitlab_that_hangs_holds_up_nobody_else(triton, gitlab: FakeGitLab):
    found = case(SEED, "gitlab_hangs")
    changes = {"gitlab_api_url": gitlab.url, "gitlab_timeout_s": found["gitlab"]["delay_s"] / 3}
    with served(triton, **changes) as url, ThreadPoolExecutor(1) as pool:
        assert ask(url).status_code == 200
        # Longer than it hung when that was recorded: it would not answer within the test.
        gitlab.delay_s = 30 * found["gitlab"]["delay_s"]
        stuck = pool.submit(ask, url, {"Authorization": "Bearer unknown"})
        until(lambda: len(gitlab.calls) == 2)
        assert ask(url).status_code == 200
        assert httpx.get(f"{url}/health", timeout=60).status_code == 200
        assert not stuck.done()
        assert stuck.result(100).status_code == 503


def test_what_is_no_bearer_token_is_a_401(triton, gitlab: FakeGitLab):
    with served(triton, gitlab_api_url=gitlab.url) as url:
        assert statuses(url, case(SEED, "non_bearer")["request_headers"]) == [401, 401, 401]
    assert gitlab.calls == []


def test_two_replicas_work_without_a_shared_cache(triton, gitlab: FakeGitLab):
    assert "without shared cache" in case(SEED, "two_replicas")["expect"]
    changes = {"gitlab_api_url": gitlab.url}
    with served(triton, **changes) as first, served(triton, **changes) as second:
        assert statuses(first) + statuses(second) == [200] * 6
    assert len(gitlab.calls) == 2


def test_a_denied_token_of_2023_gets_the_recorded_body(triton, gitlab: FakeGitLab):
    found = case(OLD, "auth_denied_by_provider")
    gitlab.reply = {"user_is_allowed": False}
    request = found["request"]
    with served(triton, gitlab_api_url=gitlab.url) as url:
        answer = httpx.post(url + request["path"], headers=request["headers"], json=request["body"])
    assert (answer.status_code, answer.json()) == (found["expect"]["status"], found["expect"]["json"])


def signed(issuer: FakeIssuer, name: str = "v2_code_completions", **claims: object) -> dict[str, str]:
    """Return a recorded request's headers with a real token in place of ``<jwt>``."""
    return {
        **case(NOW, name)["request"]["headers"],
        "Authorization": f"Bearer {issuer.token(**claims)}",
    }


@pytest.mark.parametrize("name", ["v2_code_completions", "v2_stream", "v3_completion"])
def test_a_present_request_is_served_with_its_recorded_headers(triton, issuer: FakeIssuer, name: str):
    request = case(NOW, name)["request"]
    with served(triton, gitlab_url=issuer.url) as url:
        headers = signed(issuer, name)
        answer = httpx.post(url + request["path"], headers=headers, json=request["body"], timeout=60)
    assert answer.status_code == case(NOW, name)["expect"]["status"], answer.text


@pytest.mark.parametrize(
    ("name", "claims"), [("instance_mismatch", {"sub": "5678"}), ("no_scope", {"scopes": ["duo_chat"]})]
)
def test_a_token_of_another_instance_or_without_the_scope_gets_the_recorded_body(
    triton, issuer: FakeIssuer, name: str, claims: dict[str, object]
):
    expected = case(NOW, name)["expect"]
    with served(triton, gitlab_url=issuer.url) as url:
        path = case(NOW, "v2_code_completions")["request"]["path"]
        answer = httpx.post(url + path, headers=signed(issuer, **claims), content=b"{not json")
    assert (answer.status_code, answer.json()) == (expected["status"], expected["json"])
