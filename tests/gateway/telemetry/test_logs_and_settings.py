"""Log lines without secrets; settings that refuse a gateway open to everybody."""

import io
import json
import logging
import threading

import pytest
from pydantic import ValidationError

from gateway.settings import Settings
from gateway.telemetry.logs import LineWriter, clean, describe
from gateway.telemetry.metrics import CompletionStats, Metrics


class Stuck(io.BytesIO):
    """A pipe that nobody reads until ``read`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.read = threading.Event()

    def write(self, data: object) -> int:
        assert self.read.wait(100)
        return super().write(data)


def test_a_stalled_log_reader_never_stalls_the_gateway() -> None:
    stuck = Stuck()
    writer = LineWriter(stuck, size=10)
    for _ in range(1000):
        writer.msg(b"line")
    # The first of them is still being written.
    assert stuck.getvalue() == b""
    assert writer.dropped > 900
    stuck.read.set()


def test_every_line_is_json_and_reaches_the_stream_on_close() -> None:
    stream = io.BytesIO()
    writer = LineWriter(stream)
    writer.msg(json.dumps({"a": 1}).encode())
    writer.close()
    assert stream.getvalue() == b'{"a": 1}\n'


def test_an_exceptions_text_stays_out_of_the_log_and_its_place_is_in_it() -> None:
    try:
        try:
            raise ValueError("prompt canary")
        except ValueError as error:
            raise RuntimeError("outer canary") from error
    except RuntimeError as error:
        lines = describe(error)
    assert [line.split(" ")[0] for line in lines] == ["RuntimeError", "ValueError"]
    assert "canary" not in " ".join(lines)
    assert "test_logs_and_settings.py" in lines[0]


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\ud800", "x" * 1000, "\u202e", "é"])
def test_client_text_in_a_log_is_short_and_printable(text: str) -> None:
    assert len(clean(text)) <= 256
    assert clean(text).isprintable()
    json.dumps(clean(text)).encode()


def test_a_completion_is_counted_under_the_names_dashboards_know() -> None:
    metrics = Metrics()
    metrics.completion(
        CompletionStats(
            prompt_tokens=7, completion_tokens=5, finish_reasons=("stop", "made-up"), total_s=1.0, queue_s=0.2,
            engine_s=0.7,
        )
    )  # fmt: skip
    value = metrics.registry.get_sample_value
    assert value("vllm:prompt_tokens_total") == 7
    assert value("llamacpp:tokens_predicted_total") == 5
    assert value("vllm:request_success_total", {"finished_reason": "other"}) == 1
    assert value("assist_overhead_seconds_sum") == pytest.approx(0.1)


def test_a_public_address_without_authentication_needs_to_be_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSIST_HOST", "0.0.0.0")
    with pytest.raises(ValidationError, match="on purpose"):
        Settings()
    assert Settings(auth="none").auth_mode == "none"
    assert Settings(host="127.0.0.1").auth_mode == "none"
    monkeypatch.setenv("BYPASS_EXTERNAL_AUTH", "True")
    assert Settings().auth_mode == "none"


def test_the_names_of_gitlabs_gateway_mean_the_same_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYPASS_EXTERNAL_AUTH", "False")
    monkeypatch.setenv("GITLAB_API_URL", "https://gitlab.example.com/api/v4")
    monkeypatch.setenv("USE_LOCAL_CACHE", "False")
    monkeypatch.setenv("REDIS_PASS", "secret")
    settings = Settings()
    assert settings.auth_mode == "gitlab"
    assert settings.gitlab_api_url == "https://gitlab.example.com/api/v4/"
    assert settings.redis == "redis://:secret@redis:6379/0"
    assert "secret" not in repr(settings)


def test_keys_without_a_file_are_refused_with_the_remedy() -> None:
    with pytest.raises(ValidationError, match="assist keys add"):
        Settings(auth="keys")


def test_uvicorns_own_records_become_json_lines() -> None:
    from gateway.telemetry.logs import _ToLines

    stream = io.BytesIO()
    writer = LineWriter(stream)
    handler = _ToLines(writer, with_text=False)
    handler.emit(logging.LogRecord("uvicorn.error", logging.INFO, __file__, 1, "Started %d", (7,), None))
    writer.close()
    assert json.loads(stream.getvalue())["event"] == "Started 7"
