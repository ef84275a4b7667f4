"""Errors of a log are found in its program's own format, by the time of the line, and only until it serves again."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from assist.doctor import logs
from assist.findings import exit_status


def triton(level: str, text: str, *, minutes_ago: float = 1) -> str:
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return f'{at:%Y-%m-%dT%H:%M:%SZ} {level} 1 model_lifecycle.cc:642] "{text}"'


def gateway(level: str, text: str, *, minutes_ago: float = 1) -> str:
    return json.dumps({"timestamp": time.time() - 60 * minutes_ago, "level": level, "event": text})


FAILED = "failed to load 'fastertransformer' version 1: Internal: ValueError: unknown runtime"


@pytest.mark.parametrize(
    ("program", "write"),
    [
        ("triton", lambda: triton("E", FAILED)),
        ("gateway", lambda: gateway("error", "engine_down")),
        ("gateway", lambda: "Traceback (most…"),
    ],
    ids=["triton", "gateway", "traceback"],
)
def test_a_recent_error_is_a_warning_with_its_line_that_leaves_the_verdict_as_it_is(tmp_path, program, write):
    log, line = tmp_path / f"{program}.log", write()
    log.write_text(f"{gateway('info', 'hello')}\n{line}\n")
    finding = logs.check(program, log)
    assert (finding.status, finding.fault) == ("warning", "log-errors")
    assert finding.evidence == line
    assert finding.since
    assert exit_status([finding]) == 0


def test_the_time_of_the_line_counts_and_not_the_files(tmp_path):
    log = tmp_path / "triton.log"
    log.write_text(f"{triton('E', FAILED, minutes_ago=90)}\n{triton('I', 'all quiet')}\n")
    assert logs.check("triton", log).status == "ok"


def test_an_error_from_before_the_program_served_again_is_history(tmp_path):
    log = tmp_path / "triton.log"
    log.write_text(
        f"{triton('E', FAILED)}\n{triton('I', 'Started GRPCInferenceService at 127.0.0.1:8001')}\n"
    )
    assert logs.check("triton", log).status == "ok"


def test_the_absence_of_cuda_is_no_error(tmp_path):
    log = tmp_path / "triton.log"
    log.write_text(triton("E", "CudaDriverHelper has not been initialized.") + "\n")
    assert logs.check("triton", log).status == "ok"
