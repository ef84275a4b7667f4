"""Fault matrix rows L10-L14, L22, L23, L27 (README.md): servers, networks and redirects."""

import socket
from email.utils import formatdate

import pytest

from model_loader import retry
from model_loader.download.segment import Limits
from model_loader.errors import IntegrityError, LoaderError, RedirectError, SourceError, TransientError
from testing.doubles.hub import Answer, Hub
from tests.model_loader.lab import REPOSITORY, SEGMENT, TOKEN, Lab, version

BIG = "model.safetensors"


@pytest.mark.parametrize(
    "requested", ["0", "1", "1000000000", "-5", "soon", "", formatdate(4e9, usegmt=True)]
)
def test_L10_retry_after_is_honoured_within_the_cap(lab: Lab, requested: str) -> None:
    busy = Answer(status=429, headers={"Retry-After": requested})
    lab.hub.script = lambda s: busy if s.path.endswith(BIG) and s.number < 2 else None
    lab.fetch(cap_s=0.15)
    delays = [fields["delay"] for kind, fields in lab.heard.events if kind == "retry"]
    assert len(delays) >= 2
    assert all(0 <= delay <= 0.15 for delay in delays)
    if requested in {"1", "1000000000"} or "GMT" in requested:
        assert max(delays) == 0.15
    lab.verdict("v2", staging=False)


def test_L10_a_retry_date_is_read_against_the_servers_own_clock() -> None:
    two_years_off = 63e6
    date, later = formatdate(two_years_off, usegmt=True), formatdate(two_years_off + 7, usegmt=True)
    assert retry.retry_after(later, date) == 7.0
    assert retry.retry_after(date, later) == 0.0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("where", ["/api/", BIG, "config.json"])
def test_L11_server_errors_are_retried_on_the_api_and_on_files(lab: Lab, status: int, where: str) -> None:
    lab.hub.script = lambda s: Answer(status=status) if where in s.path and s.number < 2 else None
    lab.fetch(lab.plan(pinned=False), allow_unpinned=True)
    lab.verdict("v2", staging=False)


def test_L11_endless_server_errors_end_within_the_tries(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(status=503)
    with pytest.raises(TransientError, match="503"):
        lab.fetch(tries=3)
    assert len(lab.hub.gets("config.json")) <= 3
    lab.verdict("v1")


@pytest.mark.parametrize(("status", "word"), [(401, "HF_TOKEN"), (403, "licence"), (404, "revision")])
def test_L12_a_refusal_fails_fast_with_the_remedy_and_without_the_token(
    lab: Lab, status: int, word: str
) -> None:
    lab.hub.script = lambda s: Answer(status=status)
    with pytest.raises(SourceError, match=word) as caught:
        lab.fetch()
    assert TOKEN not in str(caught.value)
    assert len(lab.hub.gets("config.json")) <= 1
    lab.verdict("v1")


def test_L12_a_token_revoked_midway_fails_and_a_new_one_continues(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(status=401) if s.path.endswith(BIG) and s.start >= 2 * SEGMENT else None
    with pytest.raises(SourceError, match="401"):
        lab.fetch()
    lab.verdict("v1", staging=True)
    reached = lab.hub.sent
    lab.hub.script = lambda s: None
    lab.fetch()
    assert lab.hub.sent - reached <= sum(map(len, lab.files.values())) - SEGMENT
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize(
    "fault", [Answer(drip_s=0.01), Answer(cut_at=0.1, length=9_000_000), Answer(stall_s=3)]
)
def test_L13_a_stall_and_a_drip_are_cut_at_the_minimum_rate_and_resumed(lab: Lab, fault: Answer) -> None:
    lab.hub.script = lambda s: fault if s.path.endswith(BIG) and s.number == 0 else None
    lab.fetch(source=lab.source(stall_s=0.5), limits=Limits(1, SEGMENT, 10_000, 0.3))
    assert any(kind == "retry" for kind, _ in lab.heard.events)
    lab.verdict("v2", staging=False)


def test_L14_a_connection_reset_is_resumed(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(cut_at=0.5, reset=True) if s.number == 0 else None
    lab.fetch()
    lab.verdict("v2", staging=False)


def test_L14_a_half_open_connection_times_out(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lab.hub.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TransientError):
            lab.fetch(source=lab.source(stall_s=0.1), tries=2)
    lab.verdict("v1")


def test_L14_an_unresolvable_name_is_retried_then_named(lab: Lab) -> None:
    lab.hub.url = "https://no-such-host.invalid"
    with pytest.raises(TransientError, match=r"no-such-host\.invalid"):
        lab.fetch(tries=2)
    assert any(kind == "retry" for kind, _ in lab.heard.events)
    lab.verdict("v1")


def test_L22_another_commit_under_the_same_tag_is_refused_by_content(lab: Lab) -> None:
    plan = lab.plan()
    lab.hub.files = version(3)
    with pytest.raises(IntegrityError):
        lab.fetch(plan)
    lab.verdict("v1")


def test_L22_a_hub_that_answers_another_commit_is_refused(lab: Lab) -> None:
    with pytest.raises(SourceError, match="commit"):
        lab.fetch(lab.plan(pinned=False), lab.source("ab" * 20), allow_unpinned=True)
    lab.verdict("v1")


def _redirect(lab: Lab, target: str) -> None:
    lab.hub.script = lambda s: Answer(status=302, headers={"Location": target})


def test_L23_a_redirect_to_another_host_is_followed_without_the_token(lab: Lab) -> None:
    other = Hub(lab.files, host="127.0.0.2")
    lab.others.append(other)
    lab.hub.script = lambda s: Answer(status=302, headers={"Location": other.url + s.path + "?X-Sig=secret"})
    lab.fetch()
    assert other.seen
    assert all(seen.headers.get("authorization") for seen in lab.hub.seen)
    assert "secret" not in lab.heard.said()
    lab.verdict("v2", staging=False)


def test_L23_a_redirect_to_another_port_is_another_origin(lab: Lab) -> None:
    other = Hub(lab.files)
    lab.others.append(other)
    lab.hub.script = lambda s: Answer(status=307, headers={"Location": other.url + s.path})
    lab.fetch()
    assert other.seen
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("http://user:pw@127.0.0.1:1/x", "user name"),
        ("http://169.254.169.254/latest/meta-data", "metadata"),
        ("http://metadata.google.internal/", "metadata"),
        ("ftp://127.0.0.1/x", "not http"),
        ("file:///etc/passwd", "not http"),
        ("", "redirects"),
    ],
)
def test_L23_a_redirect_against_the_policy_is_refused(lab: Lab, target: str, why: str) -> None:
    _redirect(lab, target)
    with pytest.raises(RedirectError, match=why):
        lab.fetch()
    lab.verdict("v1")


def test_L23_a_loop_of_redirects_ends_after_five(lab: Lab) -> None:
    _redirect(lab, "/loop")
    with pytest.raises(RedirectError, match="5 redirects"):
        lab.fetch(lab.plan(), limits=Limits(1, SEGMENT, 1000, 1))
    assert len(lab.hub.seen) <= 6
    lab.verdict("v1")


def test_L23_hosts_off_the_allow_list_are_refused(lab: Lab) -> None:
    _redirect(lab, "http://127.0.0.2:9/x")
    with pytest.raises(RedirectError, match="--redirect-host"):
        lab.fetch(source=lab.source(hosts=frozenset({"cdn.example"})))
    lab.verdict("v1")


@pytest.mark.parametrize(
    "address", ["http://mirror.example/x", "https://me:pw@mirror.example/x", "gopher://x/"]
)
def test_L23_an_insecure_source_address_is_refused_at_once(lab: Lab, address: str) -> None:
    lab.hub.url = address
    with pytest.raises(SourceError) as caught:
        lab.source()
    assert "pw" not in str(caught.value)
    lab.verdict("v1")


def test_L27_a_complete_model_needs_no_hub(lab: Lab) -> None:
    lab.fetch()
    lab.hub.url = "http://127.0.0.1:9"
    lab.fetch()
    lab.verdict("v2", staging=False)


def test_L27_an_incomplete_model_is_refused_when_the_hub_is_down(lab: Lab) -> None:
    lab.hub.script = lambda s: Answer(status=403) if s.start > SEGMENT else None
    with pytest.raises(LoaderError):
        lab.fetch()
    lab.hub.url = "http://127.0.0.1:9"
    with pytest.raises(TransientError):
        lab.fetch(tries=2)
    lab.verdict("v1")


def test_an_environment_proxy_carries_requests_to_other_hosts(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", lab.hub.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    lab.hub.url = "http://mirror.example"
    lab.fetch(source=lab.source(allow_http=True))
    assert lab.hub.seen[0].path.startswith(("http://mirror.example", f"/{REPOSITORY}"))
    lab.verdict("v2", staging=False)
