"""What people at their keyboards wait for: gateway and Triton against llama.cpp's own server, one GGUF file.

Typing is replayed from real source files (CPython's standard library): a request at each pause, cancelled by
the next key, with 1000 to 4000 tokens around the cursor. Sessions follow from ``--seed``; both contenders get
the same ones, in alternating order, loaded side by side with the same threads, slots and context. llama.cpp's
server runs with its settings for editors: a slot per person and ``--cache-reuse``.

Times are seconds from sending to the first token and to the end of the line. A request that its editor left
counts as one that took longer than that (Kaplan and Meier's estimate); with fewer than 20 answers, or fewer
than the share, there is no figure. "right" are the answers that the person then typed. "read" is how many
prompt tokens the engine read per request, which other load does not change; "wasted" is the share of the
generated tokens that came after their clients had left.

``--pace`` scales the typing: at 1 a person types some 6 characters a second. Choose it so that the machine
answers a part of the requests (two cores: 4 with one person, 8 with eight). Files are opened, and read by the
model for the first time, before the clock starts.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.support import editor_servers
from benchmarks.support.editor_servers import Model, Server
from benchmarks.support.people import Replay, quantile, replay
from benchmarks.support.typing_session import Session, session, source_files

WORK = Path(__file__).parent / ".work" / "models"
ENTRY = "qwen2.5-coder-0.5b-instruct-Q4_K_M"
GOAL_ONE, GOAL_MANY, MANY = 1.0, 0.7, 8
_TOKENS = (1000, 4000)
# Room for the answer, and for text with fewer characters per token than the sessions assume.
_SPARE = 1.5
# Answers from which on an estimate of what was not answered says something.
_ENOUGH = 20


@dataclass(frozen=True)
class Row:
    """One contender with one number of people; times in seconds, ``None`` where too few were answered."""

    server: str
    people: int
    requests: int
    answered: int
    right: int
    first_p50: float | None
    first_p95: float | None
    line_p50: float | None
    line_p95: float | None
    read: float
    wasted: float
    cpu_s: float


class Tally:
    """The rounds of one contender with one number of people."""

    def __init__(self, server: Server, people: int) -> None:
        self._server, self._people = server, people
        self._replay = Replay()
        self._spent: dict[str, float] = {}
        self._cpu_s = 0.0

    def run(self, sessions: Sequence[Session]) -> None:
        """Replay one round."""
        before, cpu_s = self._server.counters(), self._server.cpu_s()
        done = replay(self._server.url, sessions, self._server.headers[: self._people])
        after = self._server.counters()
        self._cpu_s += self._server.cpu_s() - cpu_s
        for name, value in after.items():
            self._spent[name] = self._spent.get(name, 0.0) + value - before.get(name, 0.0)
        self._replay.answers += done.answers
        self._replay.opened_s += done.opened_s

    def row(self) -> Row:
        """Return the figures of all rounds so far."""
        answers, opened = self._replay.answers, len(self._replay.opened_s)
        first = [(each.first_s or each.ended_s, each.first_s is not None) for each in answers]
        line = [(each.line_s or each.ended_s, each.line_s is not None) for each in answers]
        answered = sum(came for _, came in line)
        times = [
            quantile(each, share) if answered >= _ENOUGH else None
            for each in (first, line)
            for share in (0.5, 0.95)
        ]
        received = sum(each.received if each.predicted is None else each.predicted for each in answers)
        generated = self._spent["tokens_predicted_total"] - opened
        return Row(
            self._server.name, self._people, len(answers), answered, sum(each.right for each in answers),
            *times, self._spent["prompt_tokens_total"] / max(1, len(answers)),
            max(0.0, generated - received) / max(1.0, generated), self._cpu_s,
        )  # fmt: skip


def measure(servers: Sequence[Server], people: int, options: argparse.Namespace) -> list[Row]:
    """Let the servers take turns; return a row each."""
    tallies = [Tally(each, people) for each in servers]
    files = source_files(options.sources)
    for number in range(options.rounds):
        sessions = [
            session(
                files, f"{options.seed}/{number}/{people}/{person}", seconds=options.seconds,
                pace=options.pace, tokens=(options.tokens[0], options.tokens[1]),
            )
            for person in range(people)
        ]  # fmt: skip
        for tally in tallies if number % 2 == 0 else tallies[::-1]:
            tally.run(sessions)
    return [tally.row() for tally in tallies]


def show(rows: Iterable[Row]) -> None:
    """Print rows of the table."""
    for row in rows:
        times = (row.first_p50, row.first_p95, row.line_p50, row.line_p95)
        seconds = "".join(f"{'-' if each is None else format(each, '.2f'):>8}" for each in times)
        print(
            f"{row.server:20}{row.people:>7}{row.requests:>9}{row.answered:>9}{row.right:>7}{seconds}"
            f"{row.read:>8.0f}{row.wasted:>8.1%}{row.cpu_s:>8.1f}",
            flush=True,
        )


def ratio(rows: Sequence[Row]) -> float | None:
    """Return our p95 of the whole line as a share of the peer's; ``None`` where one of them has none."""
    mine, peer = (row.line_p95 for row in rows)
    return mine / peer if mine is not None and peer else None


def goals(results: Sequence[Sequence[Row]]) -> bool:
    """Print the ratios; return whether no goal is missed."""
    met = True
    for rows in results:
        people, found = rows[0].people, ratio(rows)
        goal = {1: GOAL_ONE, MANY: GOAL_MANY}.get(people)
        if found is None:
            print(f"{people} people: too few requests were answered for a p95; choose a larger --pace")
            continue
        verdict = "" if goal is None else f" (goal {goal:g}x: {'met' if found <= goal else 'NOT met'})"
        print(f"{people} people: p95 of the whole line {found:.2f}x of the peer's{verdict}")
        met &= goal is None or found <= goal
    return met


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--entry", default=ENTRY, help=f"GGUF model of the catalogue (default {ENTRY})")
    parser.add_argument("--model", type=Path, help="its file, where it is here already")
    parser.add_argument("--fim-template", help="of gateway and Triton, instead of the catalogue's")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 4, MANY], help="numbers of people")
    parser.add_argument("--seconds", type=float, default=60.0, help="of typing per round")
    parser.add_argument("--rounds", type=int, default=2, help="of each contender")
    parser.add_argument("--pace", type=float, default=4.0, help="all times of the typing, multiplied")
    parser.add_argument("--tokens", type=int, nargs=2, default=list(_TOKENS), metavar=("LEAST", "MOST"))
    parser.add_argument("--threads", type=int, default=cores, help="threads of each contender")
    parser.add_argument("--sources", type=Path, help="folder of *.py files (default: the standard library)")
    parser.add_argument("--seed", type=int, default=1, help="other seeds are other sessions")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; return 0 if no goal is missed, 1 if one is, 2 for a model that cannot be used."""
    options = _options(arguments)
    chosen = editor_servers.chosen(options.entry, options.model, WORK)
    if chosen is None:
        return 2
    file, fim = chosen
    # End in order at SIGTERM: the servers have their own process groups and would keep running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assist-bench-")))
        (folder / "model.gguf").symlink_to(file.resolve())
        most = max(options.people)
        context = int(options.tokens[1] * _SPARE)
        model = Model(folder, options.fim_template or fim, context, most, options.threads, most)
        starters = (editor_servers.llama_server, editor_servers.ours)
        peer, mine = (stack.enter_context(start(model)) for start in starters)
        results = []
        if not options.json:
            print(f"{file.name}, {options.threads} threads each, pace {options.pace:g}")
            print(f"{'':20}{'':>7}{'':>9}{'':>16}{'first token, s':>16}{'whole line, s':>16}")
            print(
                f"{'':20}{'people':>7}{'requests':>9}{'answered':>9}{'right':>7}{'p50':>8}{'p95':>8}{'p50':>8}{'p95':>8}"
                f"{'read':>8}{'wasted':>8}{'CPU s':>8}"
            )
        for people in options.people:
            results.append(measure((mine, peer), people, options))
            if not options.json:
                show(results[-1])
    return _report(results, options)


def _report(results: list[list[Row]], options: argparse.Namespace) -> int:
    if options.json:
        rows = [asdict(row) for each in results for row in each]
        chosen = {name: str(value) for name, value in vars(options).items()}
        ratios = {rows[0].people: ratio(rows) for rows in results}
        print(json.dumps({"options": chosen, "rows": rows, "p95_ratios": ratios, "load": os.getloadavg()[0]}))
        return 0
    met = goals(results)
    print(f"load average: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
