"""Write the metrics of every GPU, from nvidia-smi, to a file that Prometheus' node exporter reads.

Debian has no GPU exporter. The metrics have the names of NVIDIA's DCGM exporter, so that its dashboards and
rules work. Standard library only, for the system's Python: ``gpu_metrics.py TARGET SECONDS WANTED``
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

# nvidia-smi's field, the metric and its help text; both report memory in MiB.
FIELDS = (
    ("utilization.gpu", "DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %)."),
    ("memory.used", "DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB)."),
    ("memory.free", "DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB)."),
    ("temperature.gpu", "DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C)."),
    ("power.draw", "DCGM_FI_DEV_POWER_USAGE", "Power draw (in W)."),
    (
        "ecc.errors.uncorrected.volatile.total",
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "Memory errors since the last reset that could not be corrected.",
    ),
)
LABELS = ("index", "uuid", "name")
_TIMEOUT_S = 10


def query() -> str:
    """Return nvidia-smi's output; empty if it fails or hangs, as after a bus error."""
    fields = ",".join((*LABELS, *(field for field, _, _ in FIELDS)))
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def render(answer: str, wanted: int) -> str:
    """Return nvidia-smi's CSV in Prometheus' text format, without the values that a GPU does not report.

    ``wanted`` is the number of GPUs that the stack uses.
    """
    rows = [[cell.strip() for cell in row] for row in csv.reader(answer.splitlines()) if row]
    lines = [
        "# HELP assist_gpu_driver_up Whether nvidia-smi answers.",
        "# TYPE assist_gpu_driver_up gauge",
        f"assist_gpu_driver_up {int(bool(rows))}",
        "# HELP assist_gpus GPUs that respond.",
        "# TYPE assist_gpus gauge",
        f"assist_gpus {len(rows)}",
        "# HELP assist_gpus_wanted GPUs that the stack uses.",
        "# TYPE assist_gpus_wanted gauge",
        f"assist_gpus_wanted {wanted}",
    ]
    for column, (_, metric, help_text) in enumerate(FIELDS, start=len(LABELS)):
        lines += [f"# HELP {metric} {help_text}", f"# TYPE {metric} gauge"]
        for row in rows:
            if _is_number(row[column]):
                gpu, uuid, model = row[: len(LABELS)]
                lines.append(f'{metric}{{gpu="{gpu}",UUID="{uuid}",modelName="{model}"}} {row[column]}')
    return "\n".join(lines) + "\n"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write(target: Path, text: str) -> None:
    """Replace the file in one step, because the exporter may read it at any moment."""
    fresh = target.with_suffix(".fresh")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o644)
    fresh.replace(target)


def main() -> None:
    """Write the metrics every few seconds until the process is stopped."""
    target, seconds, wanted = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    while True:
        write(target, render(query(), wanted))
        time.sleep(seconds)


if __name__ == "__main__":
    main()
