"""Checks of clients' grammars: in processes with limits, and each grammar once."""

import asyncio
import sys

import pytest

from gateway.errors import ApiError
from gateway.text import constraint
from gateway.text.grammar_check import GrammarChecks
from testing import needs

# Prints its arguments' fault, and counts its calls in a file.
SCRIPT = """
import os, pathlib, sys
file = pathlib.Path(sys.argv[1])
file.write_text(file.read_text() + "." if file.exists() else ".")
grammar = sys.stdin.read()
if grammar == "crash":
    os.kill(os.getpid(), 9)
if grammar == "broken":
    sys.exit("no such library")
print("; ".join(sorted(os.environ)) if grammar == "environment" else grammar if "bad" in grammar else "", end="")
"""


@pytest.fixture
def calls(tmp_path):
    return tmp_path / "calls"


@pytest.fixture
def checks(calls):
    needs.package("xllamacpp")
    return GrammarChecks((sys.executable, "-c", SCRIPT, str(calls)))


async def test_a_schema_that_takes_for_ever_to_compile_is_refused():
    needs.package("xllamacpp")
    patterns = [{"type": "string", "pattern": f".*a.{{{length}}}b.*"} for length in range(60)]
    with pytest.raises(ApiError, match="too complex") as error:
        await constraint.verify(constraint.answer({"allOf": patterns}, strict=False))
    assert error.value.status == 400


async def test_a_grammar_is_checked_once_unless_its_fault_quotes_it(checks, calls):
    found = [await checks.fault(text) for text in ("good", "crash", "bad") * 2]
    assert found[:3] == found[3:]
    assert calls.read_text() == "...."
    assert "bad" not in vars(checks)["_found"].values()


async def test_a_check_that_is_killed_is_the_schemas_fault_and_one_that_does_not_start_is_not(checks):
    assert "too complex" in await checks.fault("crash")
    with pytest.raises(ValueError, match="no such library"):
        await checks.fault("broken")


async def test_the_gateways_secrets_do_not_reach_the_check(checks, monkeypatch):
    monkeypatch.setenv("ASSIST_ENGINE_KEY", "secret")
    assert "ASSIST" not in await checks.fault("environment")


async def test_the_number_of_checks_that_wait_is_bounded(checks):
    found = await asyncio.gather(*(checks.fault(f"bad {n}") for n in range(40)), return_exceptions=True)
    refused = [each for each in found if isinstance(each, ApiError)]
    assert len(refused) == 8
    assert {each.status for each in refused} == {503}
    assert await checks.fault("bad 39") == "bad 39"
