"""The ``jobs`` section: the targets' rules, its conflicts, and that every key reaches gateway and worker."""

from pathlib import Path

import pytest

from gateway.settings import Settings
from stackfile.environment import GatewayPaths, gateway_environment, worker_environment
from stackfile.jobs import JobsSection
from tests.stackfile.test_stack_files import changed, loaded

PATHS = GatewayPaths(Path("/models/current"), Path("/keys.json"))
HOSTS = {"target": "hosts", "auth": {"mode": "keys"}}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"jobs": {"enabled": True}}, True),
        (HOSTS, True),
        (HOSTS | {"jobs": {"enabled": False}}, False),
        ({"target": "kubernetes"}, False),
    ],
)
def test_jobs_are_on_where_a_target_has_a_queue(tmp_path, settings, expected):
    assert loaded(tmp_path, **settings).jobs.enabled is expected


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"target": "kubernetes", "jobs": {"enabled": True}}, "use target: hosts"),
        ({"jobs": {"max_bytes": 5_000_000}}, "lower max_bytes or raise max_body_bytes"),
        ({"jobs": {"queue": "a b"}}, "jobs.queue"),
        ({"jobs": {"result_ttl_s": 0}}, "jobs.result_ttl_s"),
        (HOSTS | {"jobs": {"metrics_port": 8001}}, "give one of them another port"),
    ],
)
def test_a_conflict_is_refused_with_its_remedy(tmp_path, settings, remedy):
    assert any(remedy in problem for problem in changed(tmp_path, **settings))


def test_every_key_reaches_the_gateway_and_the_worker(tmp_path, monkeypatch):
    keys = {
        "queue": "texts", "result_ttl_s": 1, "max_per_key": 2, "max_waiting": 3, "max_items": 4, "max_bytes": 5,
        "max_runtime_s": 6, "concurrency": 7, "metrics_port": 9000,
    }  # fmt: skip
    assert set(keys) == set(JobsSection.model_fields) - {"enabled"}
    service = loaded(tmp_path, jobs={"enabled": True, **keys})
    worker = worker_environment(service, PATHS, index=1)
    for environment in (gateway_environment(service, PATHS), worker):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            settings = Settings()
        for key, value in keys.items():
            if key != "metrics_port":
                assert getattr(settings, f"jobs_{key}") == value
    assert settings.jobs_metrics_port == 9001
    assert settings.model_dir == Path("/models/current")
    assert not [name for name in worker if "KEYS" in name or "AUTH" in name], "a worker answers nobody"


def test_the_defaults_are_the_programs_own(tmp_path):
    """One that runs without a stack behaves as one that a stack describes."""
    service = loaded(tmp_path)
    for key in set(JobsSection.model_fields) - {"enabled", "metrics_port"}:
        assert getattr(service.jobs, key) == Settings.model_fields[f"jobs_{key}"].default


def test_without_jobs_the_gateway_gets_no_setting_of_them(tmp_path):
    assert not [name for name in gateway_environment(loaded(tmp_path), PATHS) if "JOBS" in name]
