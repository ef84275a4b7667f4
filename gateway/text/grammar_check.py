"""Checks clients' grammars in processes of their own, with limits of time and memory (``llama_grammar``).

Nothing can interrupt llguidance, and what ends its process must not end the gateway. One grammar is compiled
at a time, in a thread of its own, so that the tokenizer's threads stay free; what was found is kept, because
the clients that use tools send the same ones with every turn.
"""

import asyncio
import os
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

from gateway.errors import unavailable
from gateway.text.llama_library import library_path

_ROOT = Path(__file__).parents[2]
_TOO_COMPLEX = "it is too complex: compiling it takes too much time or memory"
_MOST_KEPT, _MOST_WAITING = 256, 32
# Much longer than the process's own limit of processor time, also on a busy machine.
_PATIENCE_S = 60.0
_BUSY = "Too many schemas wait for their check. Try again shortly."


class GrammarChecks:
    """The checks of one process. ``command`` reads a grammar and writes its fault."""

    def __init__(
        self, command: tuple[str, ...] = (sys.executable, "-m", "gateway.text.llama_grammar")
    ) -> None:
        self._command = command
        self._pool = ThreadPoolExecutor(1, "grammars")
        self._waiting = 0
        self._found: OrderedDict[bytes, str | None] = OrderedDict()

    async def fault(self, grammar: str) -> str | None:
        """Return why a grammar is refused; ``None`` where it can be used.

        Raises ``ValueError`` with the remedy where llama.cpp is not installed or does not start, and
        ``ApiError`` 503 while too many grammars wait.
        """
        library_path()
        key = blake2b(grammar.encode(), digest_size=16).digest()
        if key in self._found:
            self._found.move_to_end(key)
            return self._found[key]
        if self._waiting >= _MOST_WAITING:
            raise unavailable(_BUSY, 1.0, "overloaded")
        self._waiting += 1
        try:
            reason = await asyncio.get_running_loop().run_in_executor(self._pool, self._run, grammar)
        except subprocess.TimeoutExpired:
            raise unavailable(_BUSY, 1.0, "overloaded") from None
        finally:
            self._waiting -= 1
        if reason not in {None, _TOO_COMPLEX}:
            return reason  # it quotes the client's schema, which is not kept
        self._found[key] = reason
        if len(self._found) > _MOST_KEPT:
            self._found.popitem(last=False)
        return reason

    def _run(self, grammar: str) -> str | None:
        kept = ("PATH", "LD_LIBRARY_PATH")  # the gateway's secrets are in its environment
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        done = subprocess.run(
            self._command, input=grammar.encode(), capture_output=True, check=False, timeout=_PATIENCE_S,
            cwd=_ROOT, env=environment | {"PYTHONPATH": str(_ROOT)},
        )  # fmt: skip
        if done.returncode < 0:
            return _TOO_COMPLEX
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
            raise ValueError(f"the check of grammars does not start: {lines[-1]}")
        return done.stdout.decode("utf-8", "replace") or None


checks = GrammarChecks()
