"""What a user pastes has to work."""

import io
import json
import shlex
from pathlib import Path

from rich.console import Console

from assist import probe, report
from assist.deployment import resolve
from assist.paths import SOURCE, Paths

DEPLOYMENT = resolve("local", Paths(SOURCE, Path("/nonexistent")))


def body_of(curl: str) -> dict:
    words = shlex.split(curl)
    return json.loads(words[words.index("-d") + 1])


def test_the_curl_line_is_one_shell_command_with_a_json_body():
    curl = report.curl(DEPLOYMENT, "ak_secret")
    assert shlex.split(curl)[0] == "curl"
    assert "Authorization: Bearer ak_secret" in shlex.split(curl)
    assert body_of(curl)["model"] == DEPLOYMENT.stack.model.id


def test_only_a_model_that_can_fill_in_the_middle_is_asked_to():
    tiny = resolve("tiny", Paths(SOURCE, Path("/nonexistent")))
    assert body_of(report.curl(DEPLOYMENT, None))["suffix"] == probe.SUFFIX
    assert "suffix" not in body_of(report.curl(tiny, None))


def test_a_completion_is_shown_in_its_place_with_its_time_and_rate():
    shown = io.StringIO()
    completion = probe.Completion(" fibonacci(n - 1)", probe.SUFFIX, tokens=13, seconds=0.5)
    report.show_completion(Console(file=shown, width=60), completion)
    assert "13 tokens in 0.50 s (26 tokens/s)" in shown.getvalue()
    assert "    return» fibonacci(n - 1)«\n\n\nprint(" in shown.getvalue()


def test_without_a_key_the_curl_line_sends_none():
    assert "Authorization" not in report.curl(DEPLOYMENT, None)


def test_the_editor_is_pointed_at_the_engines_route():
    settings = report.editor_settings(DEPLOYMENT, "ak_secret")
    assert settings["fauxpilot.server"] == "http://127.0.0.1:5000/v1/engines"
    assert settings["fauxpilot.token"] == "ak_secret"
