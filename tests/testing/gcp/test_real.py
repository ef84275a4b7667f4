"""With ``ASSIST_REAL_GCP=1`` the tests ask Google itself, and nothing of the double is on PATH."""

import httpx
import pytest

from testing import tools
from testing.gcp import double
from testing.gcp.real import RealGoogle, UnusableError

POOLS = "https://container.googleapis.com/v1/projects/p/locations/us-central1-a/clusters/c/nodePools"


def google(answers):
    """Return a project whose answers are given by method and address; what is missing is not found."""

    def answer(request):
        assert request.headers["Authorization"] == "Bearer t"
        status, body = answers.get(f"{request.method} {request.url}", (404, {}))
        return httpx.Response(status, json=body)

    return RealGoogle("p", "t", httpx.Client(transport=httpx.MockTransport(answer)))


def test_it_is_asked_at_its_own_addresses():
    asked = google(
        {
            f"GET {POOLS}": (200, {"nodePools": [{"name": "b"}, {"name": "a"}]}),
            "GET https://container.googleapis.com/v1/projects/p/locations/z/clusters/c": (200, {}),
            "GET https://iam.googleapis.com/v1/projects/p/serviceAccounts/n@p.iam.gserviceaccount.com": (
                200,
                {},
            ),
            "POST https://cloudresourcemanager.googleapis.com/v1/projects/p:getIamPolicy": (
                200,
                {"etag": "x"},
            ),
        }
    )
    assert asked.pools("c", "us-central1-a") == ["a", "b"]
    assert asked.exists("https://container.googleapis.com/v1/projects/p/zones/z/clusters/c")
    assert not asked.exists("https://container.googleapis.com/v1/projects/p/zones/z/clusters/other")
    assert asked.has_account("n")
    assert not asked.has_account("other")
    assert "etag" in asked.bindings()


def test_a_pool_that_is_deleted_is_waited_for():
    there = [(200, {}), (404, {})]

    def answer(request):
        status, body = there.pop(0) if request.method == "GET" else (200, {})
        return httpx.Response(status, json=body)

    RealGoogle("p", "t", httpx.Client(transport=httpx.MockTransport(answer)), rest_s=0).delete_pool(
        "c", "z", "n"
    )
    assert there == []


def test_an_expired_token_is_no_answer():
    denied = google({"GET https://example.googleapis.com/x": (401, {})})
    with pytest.raises(UnusableError, match="401"):
        denied.exists("https://example.googleapis.com/x")


def test_without_a_project_it_says_what_to_set(monkeypatch):
    monkeypatch.delenv("GOOGLE_PROJECT", raising=False)
    with pytest.raises(UnusableError, match="export GOOGLE_PROJECT="):
        RealGoogle.of_environment()


def test_googles_own_provider_is_used_and_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("ASSIST_REAL_GCP", "1")
    monkeypatch.setenv("GOOGLE_PROJECT", "p")
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", "t")
    assert str(double.BIN) not in RealGoogle.of_environment().environment["PATH"]
    monkeypatch.setattr(double.tools, "search_path", lambda: str(tmp_path))
    assert double.PLUGIN in (tools.missing(double.PLUGIN) or "")
    with pytest.raises(FileNotFoundError, match="pulumi plugin install resource gcp"):
        double.plugin()
    (tmp_path / double.PLUGIN).touch(mode=0o755)
    assert double.plugin() == tmp_path / double.PLUGIN
    assert double.limit_s(60) > 3600


def test_by_default_it_is_the_double(monkeypatch, tmp_path):
    monkeypatch.delenv("ASSIST_REAL_GCP", raising=False)
    assert double.plugin() == double.BIN / double.PLUGIN
    assert double.Double(tmp_path).environment["PATH"].startswith(f"{double.BIN}:")
    assert double.limit_s(60) == 60
