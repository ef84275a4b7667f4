"""What a user pastes has to work."""

import json
import shlex
from pathlib import Path

from assist import report
from assist.deployment import resolve
from assist.paths import SOURCE, Paths

DEPLOYMENT = resolve("local", Paths(SOURCE, Path("/nonexistent")))


def test_the_curl_line_is_one_shell_command_with_a_json_body():
    words = shlex.split(report.curl(DEPLOYMENT, "ak_secret"))
    assert words[0] == "curl"
    assert "Authorization: Bearer ak_secret" in words
    assert json.loads(words[words.index("-d") + 1])["model"] == "tiny-codegen"


def test_without_a_key_the_curl_line_sends_none():
    assert "Authorization" not in report.curl(DEPLOYMENT, None)


def test_the_editor_is_pointed_at_the_engines_route():
    settings = report.editor_settings(DEPLOYMENT, "ak_secret")
    assert settings["fauxpilot.server"] == "http://127.0.0.1:5000/v1/engines"
    assert settings["fauxpilot.token"] == "ak_secret"
