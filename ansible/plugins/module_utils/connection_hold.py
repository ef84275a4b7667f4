"""Hold new TCP connections to a port for a moment, so that the process behind the port can be exchanged.

During a hold, nftables drops SYN packets. A client's kernel sends the SYN again after a second, so that its
connection is delayed and not refused. The kernel itself ends a hold after ``LIMIT_S``, even if this process
is killed.
"""

import time
from collections.abc import Callable
from types import TracebackType

LIMIT_S = 20
_TABLE = "ai_assist_hold"
# A flush of an absent table fails, so the table is created first; its set's elements expire on their own.
_RULES = f"""table inet {_TABLE} {{
    set ports {{ type inet_service; flags timeout; }}
    chain input {{
        type filter hook input priority -1; policy accept;
        tcp dport @ports tcp flags & (fin | syn | rst | ack) == syn counter drop
    }}
}}
"""


class HoldError(Exception):
    """nftables refused the hold; the message holds its own output."""


class ConnectionHold:
    """A context manager that holds new connections to ``port``; ``run`` is AnsibleModule.run_command."""

    def __init__(self, run: Callable[..., tuple[int, str, str]], port: int) -> None:
        self._run, self._port = run, port

    def __enter__(self) -> "ConnectionHold":
        element = f"add element inet {_TABLE} ports {{ {self._port} timeout {LIMIT_S}s }}\n"
        code, output, errors = self._run(["nft", "--file", "-"], data=f"{self._delete()}{_RULES}{element}")
        if code:
            raise HoldError(
                f"nft could not hold connections to port {self._port}: {(errors or output).strip()}."
                " Remedy: apt-get install nftables, and run on a kernel that allows it"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(["nft", "--file", "-"], data=self._delete())

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until ``condition`` holds; raise HoldError when the hold would end before that."""
        end = time.monotonic() + LIMIT_S / 2
        while not condition():
            if time.monotonic() > end:
                raise HoldError(f"{what} took longer than {LIMIT_S / 2:.0f} s")
            time.sleep(0.02)

    @staticmethod
    def _delete() -> str:
        """Return rules that remove the table, whether or not it exists."""
        return f"add table inet {_TABLE}\ndelete table inet {_TABLE}\n"


def backlog(run: Callable[..., tuple[int, str, str]], port: int) -> int | None:
    """Return how many connections to ``port`` wait to be accepted; ``None`` if no process listens."""
    command = ["ss", "--no-header", "--listening", "--tcp", "--numeric", f"sport = :{port}"]
    rows = [line.split() for line in run(command, check_rc=True)[1].splitlines() if line.strip()]
    return sum(int(row[1]) for row in rows) if rows else None
