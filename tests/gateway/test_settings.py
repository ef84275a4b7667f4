"""The settings' variables: former names for one release, and a description of every setting."""

import json
import logging
import os
import subprocess
import sys

import pytest
from pydantic import AliasChoices

from gateway.settings import Settings
from gateway.variables import INHERITED, RENAMED, log_renamed

CHANGED = {
    "ASSIST_CONNECT_S": ("connect_timeout_s", "ASSIST_CONNECT_TIMEOUT_S"),
    "ASSIST_FIRST_TOKEN_S": ("first_token_timeout_s", "ASSIST_FIRST_TOKEN_TIMEOUT_S"),
    "ASSIST_HOLD_S": ("engine_wait_s", "ASSIST_ENGINE_WAIT_S"),
    "ASSIST_GITLAB_CACHE_S": ("gitlab_cache_ttl_s", "ASSIST_GITLAB_CACHE_TTL_S"),
    "ASSIST_OIDC_KEYS_S": ("oidc_keys_ttl_s", "ASSIST_OIDC_KEYS_TTL_S"),
    "ASSIST_JOBS_RESULT_S": ("jobs_result_ttl_s", "ASSIST_JOBS_RESULT_TTL_S"),
    "ASSIST_JOBS_LONGEST_S": ("jobs_max_runtime_s", "ASSIST_JOBS_MAX_RUNTIME_S"),
    "ASSIST_JOBS_PARALLEL": ("jobs_concurrency", "ASSIST_JOBS_CONCURRENCY"),
}
RENAMES = [pytest.param(old, *names, id=old) for old, names in CHANGED.items()]


def test_every_renamed_setting_is_tested_here() -> None:
    assert {field: old for old, (field, _) in CHANGED.items()} == RENAMED


@pytest.mark.parametrize(("old", "field", "new"), RENAMES)
def test_a_former_name_still_sets_its_setting(
    monkeypatch: pytest.MonkeyPatch, old: str, field: str, new: str
) -> None:
    monkeypatch.setenv(old, "7")
    assert getattr(Settings(), field) == 7


@pytest.mark.parametrize(("old", "field", "new"), RENAMES)
def test_the_new_name_wins_over_the_former_one(
    monkeypatch: pytest.MonkeyPatch, old: str, field: str, new: str
) -> None:
    monkeypatch.setenv(old, "7")
    monkeypatch.setenv(new, "8")
    assert getattr(Settings(), field) == 8


@pytest.mark.parametrize(("old", "field", "new"), RENAMES)
def test_a_former_name_is_logged_once_with_the_new_one(
    caplog: pytest.LogCaptureFixture, old: str, field: str, new: str
) -> None:
    with caplog.at_level(logging.WARNING):
        log_renamed({old: "7", "PATH": "/bin", new: ""})
    (record,) = caplog.records
    assert old in record.getMessage()
    assert f"now called {new}" in record.getMessage()


def test_a_former_name_beside_the_new_one_is_logged_as_ignored(caplog: pytest.LogCaptureFixture) -> None:
    log_renamed({"ASSIST_HOLD_S": "7", "ASSIST_ENGINE_WAIT_S": "8"})
    (record,) = caplog.records
    assert "ASSIST_HOLD_S is ignored" in record.getMessage()


def test_new_and_inherited_names_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    log_renamed(dict.fromkeys([new for _, new in CHANGED.values()] + list(INHERITED.values()), "7"))
    assert not caplog.records


def test_every_setting_has_a_description_and_its_own_variable_first() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.rstrip().endswith((".", ")")), name
        assert isinstance(field.validation_alias, AliasChoices), name
        assert field.validation_alias.choices[0] == f"ASSIST_{name.upper()}"


def test_an_empty_check_path_and_key_have_their_meaning_and_other_empty_variables_count_as_unset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ASSIST_GITLAB_CHECK_PATH", "ASSIST_GITLAB_CHECK_JSON", "ASSIST_MODEL", "ASSIST_PORT"):
        monkeypatch.setenv(name, "")
    settings = Settings.from_environment()
    assert (settings.gitlab_check_path, settings.gitlab_check_json) == ("", "")
    assert (settings.model, settings.port) == ("tiny-codegen", 5000)


@pytest.mark.parametrize("program", ["gateway", "gateway.worker"])
def test_both_programs_log_a_former_name_at_start(program: str) -> None:
    """The settings lack the model and the queue, so that the programs end by themselves."""
    environment = {"PATH": os.environ["PATH"], "ASSIST_HOLD_S": "3"}
    command = [sys.executable, "-W", "ignore", "-m", program]
    ended = subprocess.run(command, env=environment, capture_output=True, check=False, text=True, timeout=120)
    assert ended.returncode == 2, ended.stderr
    assert "is not set" in ended.stderr
    events = [json.loads(line)["event"] for line in ended.stdout.splitlines()]
    assert [event for event in events if "ASSIST_HOLD_S is now called ASSIST_ENGINE_WAIT_S" in event]
