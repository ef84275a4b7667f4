"""The cause of a failure is found in what the programs really write, and symptoms are not taken for it."""

import json
import time

import pytest

from assist import causes

TRITON = (
    '2026-11-29T15:51:01Z I 1 pinned_memory_manager.cc:283] "Pinned memory pool disabled"',
    '2026-11-29T15:51:01Z E 1 server.cc:241] "CudaDriverHelper has not been initialized."',
    '2026-11-29T15:51:01Z I 1 model_lifecycle.cc:472] "loading: fastertransformer:1"',
)
LAST = "error: creating server: Internal - failed to load all models"


def failed(reason: str) -> str:
    at = r"\n\nAt:\n  /srv/triton/fastertransformer/1/assist_backend/model.py(30): initialize\n"
    return (
        "2026-11-29T15:51:01Z E 1 model_lifecycle.cc:642] \"failed to load 'fastertransformer' version 1: "
        f'Internal: {reason}{at}"'
    )


def event(text: str, level: str = "error") -> str:
    return json.dumps({"timestamp": 1, "level": level, "logger": "uvicorn.error", "event": text})


@pytest.mark.parametrize(
    ("reason", "text", "remedy"),
    [
        ("RuntimeError: Variable 'x' has an invalid payload size", "files are damaged", "verify --repair"),
        ("RuntimeError: can't start new thread", "memory ran out", "smaller model"),
        ("Stub process 'fastertransformer_0_0' is not healthy.", "memory ran out", "smaller model"),
        ("ValueError: unknown runtime 'nope'", "unknown runtime 'nope'", "stack file"),
    ],
)
def test_the_engines_reason_and_not_its_last_line(tmp_path, reason, text, remedy):
    log = tmp_path / "triton.log"
    log.write_text("\n".join([*TRITON, failed(reason), f"| model | UNAVAILABLE: {reason} |", LAST]))
    cause = causes.of(log, code=1)
    assert cause is not None
    assert text in cause.text
    assert remedy in cause.remedy
    assert "\n" not in cause.text


@pytest.mark.parametrize(
    ("said", "text", "remedy"),
    [
        (
            "check_tensor_dims: tensor 'blk.3.attn_q.weight' not found",
            "llama.cpp cannot load the model (check_tensor_dims: tensor 'blk.3.attn_q.weight' not found)",
            "assist logs trial-triton",
        ),
        (
            "error loading model vocabulary: unknown tokenizer: 'zzzz'",
            "llama.cpp cannot load the model (unknown tokenizer: 'zzzz')",
            "model's file",
        ),
        (
            "unable to allocate CPU buffer",
            "memory ran out while the model was loaded (unable to allocate CPU buffer)",
            "smaller model",
        ),
    ],
)
def test_llama_cpps_own_reason_and_not_its_wrappers(tmp_path, said, text, remedy):
    log = tmp_path / "trial-triton.log"
    wrapper = failed("RuntimeError: Failed to init server, please check the input params.")
    line = f"0.00.507.672 E llama_model_load: error loading model: {said}"
    log.write_text("\n".join([*TRITON, line, wrapper, LAST]))
    cause = causes.of(log, code=1)
    assert cause is not None
    assert cause.text == text
    assert remedy in cause.remedy


def test_a_taken_port_of_the_engine_is_named(tmp_path):
    log = tmp_path / "triton.log"
    line = (
        '2026-11-29T15:51:16Z E 1 main.cc:245] "failed to start GRPC service: Unavailable - '
        "Socket '127.0.0.1:8001' already in use \""
    )
    log.write_text("\n".join([*TRITON, line]))
    cause = causes.of(log, code=1)
    assert cause is not None
    assert cause.text == "127.0.0.1:8001 is already in use by another program"


def test_four_lines_that_are_not_json_are_the_gateways_reason(tmp_path):
    log = tmp_path / "gateway.log"
    log.write_text(
        event("Application startup complete.", "info") + "\n"
        "The gateway cannot start: 1 validation error for Settings\n"
        "ASSIST_MAX_QUEUE\n"
        "  Input should be greater than or equal to 0 [type=greater_than_equal]\n"
        "    For further information visit https://errors.pydantic.dev/2.14/v/greater_than_equal\n"
    )
    cause = causes.of(log)
    assert cause is not None
    expected = "ASSIST_MAX_QUEUE: Input should be greater than or equal to 0"
    assert cause.text == f"the gateway cannot start: {expected}"


def test_a_traceback_in_json_gives_its_last_line(tmp_path):
    log = tmp_path / "gateway.log"
    traceback = (
        'Traceback (most recent call last):\\n  File "x.py", line 1\\nOSError: [Errno 28] No space left'
    )
    log.write_text(event(traceback) + "\n" + event("Application startup failed. Exiting.") + "\n")
    cause = causes.of(log)
    assert cause is not None
    assert cause.text == "OSError: [Errno 28] No space left"


def test_what_a_later_success_has_settled_is_no_cause(tmp_path):
    log = tmp_path / "triton.log"
    started = '2026-11-29T15:52:02Z I 2 grpc_server.cc:2558] "Started GRPCInferenceService at 127.0.0.1:8001"'
    log.write_text("\n".join([*TRITON, failed("ValueError: bad"), LAST, *TRITON, started]))
    assert causes.of(log) is None


def test_the_last_start_counts_and_not_the_one_before(tmp_path):
    log = tmp_path / "triton.log"
    first = [*TRITON, failed("RuntimeError: has an invalid payload size"), LAST]
    log.write_text("\n".join([*first, *TRITON, failed("ValueError: unknown precision 'x'"), LAST]))
    cause = causes.of(log)
    assert cause is not None
    assert "unknown precision 'x'" in cause.text


@pytest.mark.parametrize(
    ("end", "code", "text"),
    [
        ("exited: triton (terminated by SIGKILL; not expected)", -9, "memory ran out"),
        ("exited: triton (exit status 3; not expected)", 3, "exit status 3"),
    ],
)
def test_a_program_that_said_nothing_is_explained_by_its_end(tmp_path, end, code, text):
    supervisord, log = tmp_path / "supervisord.log", tmp_path / "triton.log"
    log.write_text("\n".join(TRITON))
    supervisord.write_text(f"2026-11-29 15:50:01,202 INFO spawned: 'triton' with pid 1\n2026 WARN {end}\n")
    assert causes.ended(supervisord, "triton") == code
    assert causes.ended(supervisord, "gateway") is None
    cause = causes.of(log, code=code)
    assert cause is not None
    assert text in cause.text


def supervisord(*minutes_ago: float) -> str:
    """Return supervisord's lines of a program that ended by itself so many minutes ago, in local time."""
    moments = [time.localtime(time.time() - 60 * ago) for ago in minutes_ago]
    ends = [f"{time.strftime('%Y-%m-%d %H:%M:%S', at)},123" for at in moments]
    return "".join(f"{at} WARN exited: triton (exit status 1; not expected)\n" for at in ends)


def test_only_recent_ends_of_the_program_itself_are_counted(tmp_path):
    log = tmp_path / "supervisord.log"
    log.write_text(supervisord(60, 4, 1) + supervisord(1).replace("triton", "gateway"))
    assert causes.crashes(log, "triton", 300) == 2
    assert causes.crashes(tmp_path / "none.log", "triton", 300) == 0


def test_a_program_serves_once_it_says_so_after_its_last_start(tmp_path):
    log = tmp_path / "triton.log"
    served = '2026-11-29T15:51:09Z I 1 grpc_server.cc:2451] "Started GRPCInferenceService at 127.0.0.1:8001"'
    log.write_text("\n".join([TRITON[0], served]))
    assert causes.serves(log)
    log.write_text("\n".join([TRITON[0], served, TRITON[0], failed("RuntimeError: no")]))
    assert not causes.serves(log)


def test_a_repository_that_triton_cannot_read_is_named(tmp_path):
    log = tmp_path / "triton.log"
    log.write_text(
        '2026-11-29T19:41:50Z E 1 model_repository_manager.cc:1460] "Poll failed for model directory '
        "'fastertransformer': failed to read text proto from /x/config.pbtxt\"\n"
    )
    cause = causes.of(log, code=1)
    assert cause is not None
    assert (
        cause.text
        == "Triton cannot read its model repository: failed to read text proto from /x/config.pbtxt"
    )
    assert "Poll failed" in cause.line
