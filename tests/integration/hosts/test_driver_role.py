"""The driver's role on a booted host whose GPUs are believable and compute nothing: what it decides, and stops at."""

from pathlib import Path

import pytest
import yaml

from stackfile.catalogue import ROOT
from testing.lab.driver import Lab, Played

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

LIE = "/run/lab/nvidia-smi.fail"


@pytest.fixture(scope="module")
def lab(make_lab) -> Lab:
    """Boot two hosts, one of which has two H100s with R535 as far as anybody can see."""
    return make_lab("D", "gpu1:groups=gpu,gateway,queue:gpus=2", "cpu1:groups=gpu")


@pytest.fixture
def driver(lab: Lab, tmp_path: Path):
    """Return a function that runs the role on one host, for a stack with these settings."""

    def run(host: str, *options: str, kind: str = "t4", **settings: object) -> Played:
        stack = yaml.safe_load((ROOT / "stacks/hosts.yaml").read_text())
        stack["accelerator"] = {"kind": kind, "count": 2, "split": "replicate"}
        stack["precision"] = "float32"
        stack["hosts"]["driver"] = settings
        file = tmp_path / "hosts.yaml"
        file.write_text(yaml.safe_dump(stack))
        return lab.play("gpus.yml", "--limit", host, *options, variables={"service_stack": str(file)})

    return run


def test_a_driver_that_serves_is_kept_and_then_used_which_a_stand_in_does_not_survive(lab, driver):
    played = driver("gpu1")
    assert played.code == 2
    assert "CUDA smoke test: libcuda.so.1 cannot be loaded" in played.output
    assert played.changes == 0
    assert "nvidia" not in lab.run("gpu1", "dpkg-query --show --showformat='${Package}\n'")


def test_a_mismatch_on_a_driver_that_is_not_from_packages_is_left_to_a_person(lab, driver):
    lab.run("gpu1", f"echo mismatch >{LIE}")
    try:
        played = driver("gpu1")
    finally:
        lab.run("gpu1", f"rm {LIE}")
    assert "was not installed from packages" in played.output
    assert "nvidia-uninstall" in played.output
    assert (played.code, played.changes) == (2, 0)


def test_a_newer_driver_on_a_k80_is_no_driver(driver):
    played = driver("gpu1", kind="k80")
    assert "nvidia-uninstall" in played.output
    assert (played.code, played.changes) == (2, 0)


def test_a_host_without_a_gpu_is_refused_before_anything_is_installed(driver):
    played = driver("cpu1")
    assert "the PCI bus shows no NVIDIA GPU" in played.output
    assert (played.code, played.changes) == (2, 0)
