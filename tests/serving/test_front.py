"""The unary model's front: whatever a request does to it, its place is free again."""

import importlib
import sys
import types

import pytest

FINAL = 1
MODEL = {
    "model_config": '{"parameters": {"model": {"string_value": "m"}, "backlog": {"string_value": "1"}}, "output": []}'
}


class Sender:
    def __init__(self) -> None:
        self.errors: list[object] = []

    def send(self, response: object, flags: int) -> None:
        assert flags == FINAL
        self.errors.append(response)

    def is_cancelled(self) -> bool:
        return False


class Request:
    """A request of one row, as Triton hands it over; its parameters cannot be read."""

    def __init__(self) -> None:
        self.sender = Sender()

    def get_response_sender(self) -> Sender:
        return self.sender

    def inputs(self) -> list[object]:
        return [types.SimpleNamespace(shape=lambda: (1, 4))]

    def parameters(self) -> str:
        return "{"


@pytest.fixture
def front(monkeypatch):
    """Yield the model with room for one row; Triton's module exists only inside Triton."""
    made = types.ModuleType("triton_python_backend_utils")
    made.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
    made.TritonError = type("TritonError", (), {"INTERNAL": 1, "UNAVAILABLE": 2, "__init__": lambda *_: None})
    made.InferenceResponse = lambda _outputs, error: error
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", made)
    names = ("serving.backend.replies", "serving.backend.front")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    model = importlib.import_module(names[1]).TritonPythonModel()
    model.initialize(MODEL)
    yield model
    model.finalize()
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.timeout(60)
def test_a_request_that_cannot_be_passed_on_is_answered_and_frees_its_place(front):
    requests = [Request(), Request(), Request()]
    front.execute(requests)
    assert [len(request.sender.errors) for request in requests] == [1, 1, 1]
