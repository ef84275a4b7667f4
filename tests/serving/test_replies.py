"""Checks for a cancellation and responses take turns: Triton crashes on a check after the final response."""

import importlib
import sys
import threading
import types

import pytest

FINAL = 1


class Sender:
    """Triton's response sender: it knows nothing of the request any more once the final response is sent."""

    def __init__(self) -> None:
        self.final = False
        self.sent = 0
        self.asking = threading.Event()
        self.answer = threading.Event()

    def send(self, *_: object, flags: int = 0) -> None:
        assert not self.final, "here Triton writes to what it has freed"
        self.sent += 1
        self.final = flags == FINAL

    def is_cancelled(self) -> bool:
        assert not self.final, "here Triton reads what it has freed"
        self.asking.set()
        assert self.answer.wait(30)
        assert not self.final, "here, too"
        return True


@pytest.fixture
def replies(monkeypatch):
    errors = types.SimpleNamespace(INTERNAL=1, INVALID_ARG=2, CANCELLED=3)
    made = types.ModuleType("triton_python_backend_utils")
    made.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
    made.TritonError = type("TritonError", (), {**vars(errors), "__init__": lambda *_: None})
    made.InferenceResponse = lambda *_, **__: None
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", made)
    monkeypatch.delitem(sys.modules, "serving.backend.replies", raising=False)
    yield importlib.import_module("serving.backend.replies")
    sys.modules.pop("serving.backend.replies", None)


@pytest.mark.parametrize("end", [lambda reply: reply.done(None), lambda reply: reply.failed(ValueError("x"))])
def test_the_final_response_waits_for_a_question_under_way_and_none_follows_it(replies, end):
    sender = Sender()
    reply = replies.StreamReply(sender, [1], lambda: False)
    seen: list[bool] = []
    asking = threading.Thread(target=lambda: seen.append(reply.cancelled()))
    asking.start()
    assert sender.asking.wait(30)
    ending = threading.Thread(target=end, args=[reply])
    ending.start()
    sender.answer.set()
    for thread in (asking, ending):
        thread.join(30)
    assert seen == [True]
    assert sender.final
    assert reply.cancelled() is False


def test_tokens_that_come_after_the_final_response_are_not_sent(replies, monkeypatch):
    monkeypatch.setattr(replies.tensors, "stream_outputs", lambda *_, **__: {})
    sender = Sender()
    reply = replies.StreamReply(sender, [1], lambda: False)
    row = types.SimpleNamespace(index=0)
    reply.tokens(row, 0, 1, final=False)
    reply.failed(ValueError("the client cancelled the request"))
    reply.tokens(row, 1, 2, final=True)
    assert sender.sent == 2


def test_a_withdrawn_request_is_a_cancelled_one_and_triton_is_not_asked(replies):
    sender = Sender()
    assert replies.StreamReply(sender, [1], lambda: True).cancelled()
    assert not sender.asking.is_set()


class Errors(Sender):
    """A sender that keeps the errors."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[object] = []

    def send(self, response: object, flags: int = 0) -> None:
        super().send(flags=flags)
        self.errors.append(response)


@pytest.fixture
def said(replies, monkeypatch):
    """Let an error response be its message and code."""
    utils = sys.modules["triton_python_backend_utils"]
    codes = {"INTERNAL": 1, "INVALID_ARG": 2, "CANCELLED": 3, "UNAVAILABLE": 4}
    made = type("TritonError", (), {**codes, "__new__": lambda _, message, code: (message, code)})
    monkeypatch.setattr(utils, "TritonError", made)
    monkeypatch.setattr(utils, "InferenceResponse", lambda *_, error=None, **__: error)
    return codes


@pytest.mark.parametrize("kind", ["BadRequestError", "CancelledError", "RuntimeError"])
def test_an_error_keeps_message_and_code_on_its_way_through_the_front(replies, said, kind):
    error = getattr(replies, kind, RuntimeError)("of the engine")
    direct, between, client = Errors(), Errors(), Errors()
    replies.send_error(direct, error)
    replies.WholeReply(between, 1, [1], lambda: False).failed(error)
    ((message, _),) = between.errors
    # Triton passes on the message alone.
    passed = types.SimpleNamespace(
        has_error=lambda: True, error=lambda: types.SimpleNamespace(message=lambda: message)
    )
    replies.PassedReply(client).passed(passed)
    assert client.errors == direct.errors


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Exceeds maximum queue size", "UNAVAILABLE"),
        ("Request timeout expired", "UNAVAILABLE"),
        ("Stub process 'fastertransformer_stream_0_0' is not healthy.", "INTERNAL"),
    ],
)
def test_tritons_own_refusals_are_unavailability_and_a_crash_is_internal(replies, said, message, code):
    client = Errors()
    replies.PassedReply(client).failed(RuntimeError(message))
    assert client.errors == [(message, said[code])]


def test_nothing_follows_the_fronts_final_response(replies, said):
    client = Errors()
    reply = replies.PassedReply(client)
    reply.failed(RuntimeError("Request timeout expired"))
    reply.failed(RuntimeError("another error"))
    assert client.sent == 1
