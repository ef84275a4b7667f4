"""The levels of the tests, and the table that a run ends with: level, ran, skipped, why, and what would run them.

A test is of exactly one level. Its marker ``unit``, ``contract``, ``engine`` or ``scenario`` says which; a test without
one has the level of the first pattern of ``_PATHS`` that its path matches; without such a pattern, a test whose markers
name a program (``triton``, ``redis``, ...) is of the level engine, and every other test is a unit test.

A skip's reason is "cause; run: command", where the command would have the test run (``testing.needs`` writes such
reasons); a skip without a command, or of a whole file, fails the run. Tests marked ``long`` are left out unless
``-m`` asks for them, as ``make test-long`` does; the table counts them apart.
"""

import re
import textwrap
from collections import defaultdict
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import pytest

LEVELS = {
    "unit": "needs no program but Python",
    "contract": "recorded requests, and promises that two targets keep alike",
    "engine": "real Triton, Redis, Pulumi, Kubernetes, hosts",
    "scenario": "faults, updates and whole installations",
}
_PATHS = (
    ("tests/*/test_replay_*.py", "contract"),
    ("tests/*/test_recorded_*.py", "contract"),
    ("tests/integration/parity/*", "contract"),
    ("tests/integration/*/test_schema.py", "contract"),
    ("tests/integration/faults/*", "scenario"),
    ("tests/integration/air_gap/*", "scenario"),
    ("tests/integration/local/*", "scenario"),
    ("tests/integration/*/test_cut_off.py", "scenario"),
    ("tests/integration/*/test_rolling*.py", "scenario"),
    ("tests/integration/*", "engine"),
)
_PROGRAMS = {"triton", "redis", "npm", "kube", "gcp", "root"}
_LONG = "make test-long"
_REASON = re.compile(r"(?:Skipped: )?(?P<cause>.+); run: (?P<command>.+)", re.DOTALL)
_WIDTH = 64


def level_of(path: str, markers: Iterable[str] = ()) -> str:
    """Return the level of a test at ``path``, relative to the repository, with these markers.

    Raises ``ValueError`` for markers of two levels.
    """
    present = set(markers)
    named = [level for level in LEVELS if level in present]
    if len(named) > 1:
        raise ValueError(f"{path} is marked {' and '.join(named)}: a test is of one level")
    if named:
        return named[0]
    matching = (level for pattern, level in _PATHS if fnmatch(path, pattern))
    return next(matching, "engine" if present & _PROGRAMS else "unit")


@dataclass
class _Tally:
    ran: set[str] = field(default_factory=set)
    skipped: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Node ids, each with the cause and the command."""


class Table:
    """Counts what the reports of a run say; with pytest-xdist, in the process that gathers them."""

    def __init__(self, config: pytest.Config) -> None:
        """Count nothing yet."""
        self._config = config
        self._tallies: dict[str, _Tally] = defaultdict(_Tally)
        self._wrong: dict[str, str] = {}
        self.long = 0

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once, whatever its set-up and its tear-down report besides."""
        level = getattr(report, "level", None) or level_of(report.nodeid.partition("::")[0])
        if not report.skipped or hasattr(report, "wasxfail"):
            if report.when == "call" or report.failed:
                self._tallies[level].ran.add(report.nodeid)
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found = _REASON.fullmatch(reason.strip())
        if found is None:
            self._wrong[report.nodeid] = f'{reason} -- end the reason with "; run: COMMAND"'
            return
        self._tallies[level].skipped[report.nodeid] = (found["cause"], found["command"])

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Refuse the skip of a file: how many tests it has would be unknown."""
        if report.skipped:
            self._wrong[report.nodeid] = (
                "a whole file is skipped: skip each test, so that the table counts it"
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what a worker process left out; each collects everything."""
        self.long = max(self.long, getattr(node, "workeroutput", {}).get("long", 0))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run with a skip that helps nobody."""
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["long"] = self.long
        elif self._wrong and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and above it the skips that fail the run."""
        for nodeid, cause in self._wrong.items():
            terminalreporter.write_line(f"SKIPPED WITHOUT REMEDY {nodeid}: {cause}", red=True)
        lines = list(self.lines())
        if lines:
            terminalreporter.section("levels")
            for line in lines:
                terminalreporter.write_line(line)

    def lines(self) -> Generator[str]:
        """Return the table's lines; none where no test ran or was skipped."""
        rows = [(level, self._tallies[level]) for level in LEVELS if level in self._tallies]
        if not rows and not self.long:
            return
        yield f"{'level':<10}{'ran':>6}{'skipped':>9}  {'why (tests)':<{_WIDTH}}  to run them"
        for level, tally in rows:
            start = f"{level:<10}{len(tally.ran):>6}{len(tally.skipped):>9}  "
            for cause, command in _grouped(tally.skipped.values()) or [("", "")]:
                *above, last = textwrap.wrap(cause, _WIDTH) or [""]
                for part in above:
                    yield start + part
                    start = " " * len(start)
                yield (start + f"{last:<{_WIDTH}}  {command}").rstrip()
                start = " " * len(start)
        if self.long:
            yield f"{'long':<10}{self.long:>6} tests of these levels take minutes each and were left out: {_LONG}"


def _grouped(skips: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return causes with their numbers of tests, in the order of the commands that would run them."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for cause, command in skips:
        counts[command, cause] += 1
    return [(f"{cause} ({counts[command, cause]})", command) for command, cause in sorted(counts)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of levels."""
    parser.addoption(
        "--level",
        action="append",
        choices=list(LEVELS),
        help="run the tests of this level alone; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the levels' markers known."""
    for level, meaning in LEVELS.items():
        config.addinivalue_line("markers", f"{level}: of the level {level}: {meaning}")
    config.addinivalue_line("markers", f"long: takes minutes, so it is left out; {_LONG} runs it")
    config.pluginmanager.register(Table(config), "levels-table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give every test its level, and leave the long ones out unless ``-m`` names them."""
    for item in items:
        try:
            level = level_of(item.nodeid.partition("::")[0], (mark.name for mark in item.iter_markers()))
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
        item.stash[_LEVEL] = level
    if chosen := config.option.level:
        left_out = [item for item in items if item.stash[_LEVEL] not in chosen]
        items[:] = [item for item in items if item.stash[_LEVEL] in chosen]
        config.hook.pytest_deselected(items=left_out)
    if re.search(r"\blong\b", config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if not item.get_closest_marker("long")]
    table = config.pluginmanager.get_plugin("levels-table")
    assert table is not None
    table.long = len(left_out)
    config.hook.pytest_deselected(items=left_out)


_LEVEL = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the test's level along with its report, from a worker process too."""
    report = yield
    report.level = item.stash.get(_LEVEL, None)  # type: ignore[attr-defined]
    return report
