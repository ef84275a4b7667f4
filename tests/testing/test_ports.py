"""Ports for servers under test are nobody else's."""

import random
import subprocess
import sys

import pytest

from testing import ports
from testing.ports import free_ports
from testing.until import until

# Takes all but one port of a range and keeps them until its standard input closes.
_OTHER = """
import sys
from testing import ports
ports._RANGE = range(*map(int, sys.argv[1:]))
print(*ports.free_ports(len(ports._RANGE) - 1), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> range:
    """Leave three ports to choose from, where the servers of other tests have none."""
    starts = random.sample(range(ports._RANGE.stop, 32_000), 100)
    found = (range(start, start + 3) for start in starts if all(map(ports._is_free, range(start, start + 3))))
    monkeypatch.setattr(ports, "_RANGE", chosen := next(found))
    return chosen


def test_a_port_that_another_test_process_was_given_is_not_given_again_while_it_runs(few):
    other = subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(few.start), str(few.stop)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with other:
        assert other.stdout
        theirs = {int(port) for port in other.stdout.readline().split()}
        mine = set(free_ports(1))
        assert mine == set(few) - theirs
        with pytest.raises(AssertionError, match="no 1 free ports"):
            free_ports(1)
    until(lambda: set(free_ports(1)) <= theirs)


def test_a_port_is_given_once(few):
    assert sorted(free_ports(3)) == list(few)
    with pytest.raises(AssertionError, match="no 1 free ports"):
        free_ports(1)
