"""Before anything is touched: every reason at once, each with its remedy."""

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assist import preflight
from assist.deployment import Deployment, Overrides, resolve
from assist.paths import SOURCE, Paths
from testing.ports import free_ports

# The user that owns nothing.
NOBODY = 65534


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return resolve("tiny", Paths(SOURCE, tmp_path / ".run"), Overrides(port=free_ports(1)[0]))


def _finding(found, name):
    return next(finding for finding in found if finding.id == name)


def test_a_port_in_use_is_reported_with_the_program_that_holds_it_and_a_way_out(deployment, monkeypatch):
    monkeypatch.setattr(preflight, "unreachable", lambda layout: None)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", deployment.stack.gateway.port))
        holder.listen()
        finding = _finding(preflight.run(deployment), f"port {deployment.stack.gateway.port}")
    assert finding.status == "problem"
    assert f"process {os.getpid()}" in finding.cause
    assert "make up PORT=" in finding.remedy


def test_every_other_port_is_changed_by_a_key_of_its_own_section(deployment):
    for use in deployment.ports:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            remedy = preflight._port(use, "127.0.0.1", port, os.getpid()).remedy
        if use != "gateway":
            section, key = remedy.rpartition("such as ")[2].rstrip("}").split(": {")
            name, value = key.split(": ")
            assert getattr(getattr(deployment.stack, section), name)
            assert int(value) == port + 10


def test_two_uses_of_one_port_are_refused_before_either_is_bound(deployment):
    twice = replace(
        deployment,
        stack=deployment.stack.model_copy(
            update={"gateway": deployment.stack.gateway.model_copy(update={"port": 8001})}
        ),
    )
    assert any("both gateway and Triton gRPC" in f.cause for f in preflight._ports(twice))


def test_every_problem_is_said_at_once(deployment, monkeypatch):
    monkeypatch.setattr(preflight, "unreachable", lambda layout: "no route to host")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: _Usage)
    problems = {f.id for f in preflight.run(deployment) if f.status == "problem"}
    assert {"disk", "network"} <= problems


class _Usage:
    total = used = free = 1024


def test_no_network_is_a_problem_only_when_something_must_be_installed(deployment, monkeypatch):
    monkeypatch.setattr(preflight, "unreachable", lambda layout: "no route to host")
    finding = preflight._network(deployment)
    assert finding.status == "problem"
    assert "PIP_INDEX_URL" in finding.remedy
    for name in deployment.locks:
        python = deployment.layout.python(name)
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
    assert preflight._network(deployment).status == "ok"


def test_a_clone_too_deep_for_a_unix_socket_is_refused_with_the_remedy(deployment, tmp_path):
    deep = replace(deployment, layout=Paths(SOURCE, tmp_path / ("d" * 100) / ".run"))
    finding = preflight._socket_path(deep)
    assert finding.status == "problem"
    assert "shorter path" in finding.remedy


def test_a_machine_that_the_server_wheel_does_not_run_on_is_named(deployment, monkeypatch):
    monkeypatch.setattr(preflight.platform, "libc_ver", lambda: ("glibc", "2.31"))
    assert preflight._platform(deployment).status == "problem"


def test_too_little_memory_names_what_is_needed(deployment, monkeypatch):
    monkeypatch.setattr(preflight.memory_check, "available_mib", lambda: 256)
    finding = preflight._memory(deployment)
    assert finding.status == "problem"
    assert "0.2 GiB" in finding.cause


@contextlib.contextmanager
def not_root() -> Iterator[None]:
    """Be a user who may not write everywhere."""
    user = os.getuid()
    os.setresuid(user or NOBODY, user or NOBODY, user)
    try:
        yield
    finally:
        os.setresuid(user, user, user)


def test_a_folder_of_somebody_else_is_refused(deployment):
    elsewhere = replace(deployment, layout=Paths(SOURCE, Path("/usr/share/assist/.run")))
    with not_root():
        assert preflight._folder(elsewhere).status == "problem"


def test_a_model_without_checksums_is_refused_with_both_ways_to_go_on(deployment):
    model = deployment.stack.model
    files = tuple(file.model_copy(update={"sha256": None}) for file in model.files)
    unpinned = replace(
        deployment,
        stack=deployment.stack.model_copy(update={"model": model.model_copy(update={"files": files})}),
    )
    finding = preflight._pinned(unpinned)
    assert finding.status == "problem"
    assert f"assist models pin {model.id}" in finding.remedy
    assert "ALLOW_UNPINNED=1" in finding.remedy


def test_jobs_without_a_redis_are_refused_with_both_ways_to_go_on(deployment):
    jobs = deployment.stack.jobs.model_copy(update={"enabled": True})
    with_jobs = replace(deployment, stack=deployment.stack.model_copy(update={"jobs": jobs}))
    found = _finding(preflight.run(with_jobs), "queue")
    assert found.status == "problem"
    assert "ASSIST_JOBS_REDIS_URL=redis://" in found.remedy
    named = replace(with_jobs, passed={"ASSIST_JOBS_REDIS_URL": "redis://127.0.0.1/0"})
    found = _finding(preflight.run(named), "queue")
    assert found.status == "ok"
    assert with_jobs.programs == ("triton", "gateway", "worker")
