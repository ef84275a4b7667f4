"""The command and the environment of tritonserver, and what is checked before it starts."""

import sys
import types
from pathlib import Path

import pytest

from serving import tritonserver
from serving.tritonserver import Installation, TritonError


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Make an installation of the files that matter, without libraries."""
    found = Installation(tmp_path, "3.11")
    for path in (found.server, found.stub):
        path.parent.mkdir(parents=True)
        path.touch(mode=0o755)
    (found.backends / "python").mkdir(parents=True)
    monkeypatch.setattr(tritonserver, "installation", lambda python: found)
    return found


def made(**changes):
    options = {"host": "127.0.0.1", "http_port": 1, "grpc_port": 2, "metrics_port": 3, "gpu": False}
    return tritonserver.command(Path("/models"), **options | {"python": Path("/venv/bin/python")} | changes)


def test_every_listener_is_bound_to_the_host(fake):
    argv, _ = made()
    assert {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1"} <= set(
        argv
    )
    assert {"--http-port=1", "--grpc-port=2", "--metrics-port=3"} <= set(argv)


def test_models_are_fixed_and_their_configurations_complete(fake):
    argv, _ = made()
    expected = {"--disable-auto-complete-config", "--model-control-mode=none", "--exit-on-error=true"}
    assert expected <= set(argv)


def test_the_virtual_environment_comes_first_in_path(fake):
    _, environment = made()
    assert environment["PATH"].split(":")[0] == "/venv/bin"
    assert "PYTHONPATH" not in environment


def test_gpu_features_are_off_on_a_cpu_and_on_with_a_gpu(fake):
    argv, _ = made()
    assert {"--allow-gpu-metrics=false", "--pinned-memory-pool-byte-size=0"} <= set(argv)
    argv, environment = made(gpu=True)
    assert "--allow-gpu-metrics=false" not in argv
    assert "LD_LIBRARY_PATH" in environment


def test_preparing_links_the_stub_once(fake):
    link = fake.backends / "python" / "triton_python_backend_stub"
    assert tritonserver.prepare(Path("python"))
    assert link.resolve() == fake.stub
    assert not link.readlink().is_absolute()
    assert not tritonserver.prepare(Path("python"))


def test_preparing_mends_a_link_to_another_pythons_stub(fake):
    link = fake.backends / "python" / "triton_python_backend_stub"
    link.symlink_to("../../python_backend_stubs/3.8/triton_python_backend_stub")
    assert tritonserver.prepare(Path("python"))
    assert link.resolve() == fake.stub


def test_a_missing_libpython_is_named_with_its_package(fake, monkeypatch):
    listing = "\tlibpython3.11.so.1.0 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n"
    monkeypatch.setattr(tritonserver.subprocess, "run", lambda *a, **k: types.SimpleNamespace(stdout=listing))
    with pytest.raises(TritonError, match=r"libpython3\.11\.so\.1\.0: apt-get install libpython3\.11"):
        tritonserver.prepare(Path("python"))


def test_a_python_without_the_server_is_refused_with_the_wheel_to_install(tmp_path):
    with pytest.raises(TritonError, match=r"nvidia-pytriton==0\.7\.0|nvidia-pytriton has no"):
        tritonserver.installation(Path("/usr/bin/python3"))
    with pytest.raises(TritonError, match="does not run"):
        tritonserver.installation(tmp_path / "python")


def test_orphaned_shared_memory_of_a_port_is_swept_and_no_other():
    mine = Path("/dev/shm") / f"{tritonserver.shm_prefix(1)}test"
    other = Path("/dev/shm") / f"{tritonserver.shm_prefix(12)}test"
    mine.touch()
    other.touch()
    try:
        assert tritonserver.sweep(1) == 1
        assert not mine.exists()
        assert other.exists()
    finally:
        other.unlink()


def test_numpy_two_is_refused_with_the_remedy(monkeypatch):
    fake_utils = types.ModuleType("triton_python_backend_utils")
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake_utils)
    from serving.backend import model

    monkeypatch.setattr(model.np, "__version__", "2.1.0")
    with pytest.raises(RuntimeError, match=r"install numpy>=1\.26\.4,<2"):
        model.TritonPythonModel().initialize({})


def test_in_nvidias_container_the_server_and_its_stub_are_taken_as_they_lie(tmp_path, monkeypatch):
    container = tmp_path / "tritonserver"
    stub = container / "backends/python/triton_python_backend_stub"
    for file in (container / "bin/tritonserver", stub):
        file.parent.mkdir(parents=True)
        file.touch()
    monkeypatch.setattr(tritonserver, "CONTAINER", container)
    monkeypatch.setattr(tritonserver, "_check_libraries", lambda found: None)
    # An environment without the wheel: Debian's own Python.
    assert tritonserver.installation(Path("/usr/bin/python3")).stub == stub
    assert not tritonserver.prepare(Path("/usr/bin/python3"))
    assert not stub.is_symlink()
