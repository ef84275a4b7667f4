"""What Prometheus reads of a host's GPUs."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from stackfile.catalogue import ROOT
from testing.until import until

PROGRAM = ROOT / "ansible/roles/monitoring/files/gpu_metrics.py"
TWO = """0, GPU-a, Tesla T4, 37, 4011, 11234, 61, 68.10, 2
1, GPU-b, Tesla K80, [N/A], 12, 11429, 40, [N/A], [N/A]
"""
NONE = {("assist_gpu_driver_up", ""): 0, ("assist_gpus", ""): 0, ("assist_gpus_wanted", ""): 3}


def samples(tmp_path: Path, smi: str | None) -> dict[tuple[str, str], float]:
    """Run the program beside an nvidia-smi that is the shell script ``smi``, and read its first file."""
    programs = tmp_path / "bin"
    programs.mkdir()
    if smi is not None:
        (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
        (programs / "nvidia-smi").chmod(0o755)
    target = tmp_path / "gpus.prom"
    environment = {"PATH": f"{programs}:/nowhere" if smi is None else f"{programs}:{os.environ['PATH']}"}
    process = subprocess.Popen([sys.executable, "-I", PROGRAM, target, "60", "3"], env=environment)
    try:
        until(target.exists)
    finally:
        process.kill()
        process.wait()
    families = text_string_to_metric_families(target.read_text())
    return {(s.name, s.labels.get("gpu", "")): s.value for family in families for s in family.samples}


def test_every_gpu_is_reported_under_the_names_of_nvidias_own_exporter(tmp_path):
    found = samples(tmp_path, f"cat <<'END'\n{TWO}END")
    assert found["DCGM_FI_DEV_GPU_UTIL", "0"] == 37
    assert found["DCGM_FI_DEV_FB_USED", "0"] == 4011
    assert found["DCGM_FI_DEV_GPU_TEMP", "1"] == 40
    assert found["DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "0"] == 2
    assert found["assist_gpu_driver_up", ""] == 1
    assert (found["assist_gpus", ""], found["assist_gpus_wanted", ""]) == (2, 3)


def test_what_a_gpu_does_not_report_is_left_out_and_not_zero(tmp_path):
    found = samples(tmp_path, f"cat <<'END'\n{TWO}END")
    assert ("DCGM_FI_DEV_GPU_UTIL", "1") not in found
    assert ("DCGM_FI_DEV_POWER_USAGE", "1") not in found


def test_a_driver_that_fails_is_told_and_never_reads_as_idle_gpus(tmp_path):
    assert samples(tmp_path, "echo NVIDIA-SMI has failed; exit 9") == NONE


def test_a_host_without_nvidia_smi_is_told(tmp_path):
    assert samples(tmp_path, None) == NONE
