"""llama.cpp's own server on a GGUF model, as a process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stackfile.catalogue import ROOT
from testing.ports import free_ports


@contextmanager
def running_llama(
    model: Path, *, alias: str = "tiny", context: int = 512, slots: int = 1
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start ``serving.llama_server`` on a folder; give its address, where it may not answer yet, and the process."""
    (port,) = free_ports(1)
    options = [
        f"--port={port}",
        f"--alias={alias}",
        f"--context-length={context}",
        f"--slots={slots}",
        "--threads=1",
    ]
    process = subprocess.Popen([sys.executable, "-m", "serving.llama_server", model, *options], cwd=ROOT)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(timeout=120)
