"""llama.cpp's own server on a GGUF model, as a process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stackfile.catalogue import ROOT
from testing.ports import free_ports


@contextmanager
def running_llama(
    model: Path, *, alias: str = "tiny", context: int = 512, slots: int = 1,
    wrapped: Callable[[list[str]], list[str]] = list,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:  # fmt: skip
    """Start ``serving.llama_server`` on a folder; give its address, where it may not answer yet, and the process.

    ``wrapped`` changes its argv, as a control group does.
    """
    (port,) = free_ports(1)
    options = [
        f"--port={port}",
        f"--alias={alias}",
        f"--context-length={context}",
        f"--slots={slots}",
        "--threads=1",
    ]
    argv = [sys.executable, "-m", "serving.llama_server", str(model), *options]
    process = subprocess.Popen(wrapped(argv), cwd=ROOT)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait(timeout=120)
