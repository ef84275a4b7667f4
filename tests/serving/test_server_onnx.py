"""What the server promises, with onnxruntime behind it: the tests of ``test_server`` once more, and stop words."""

import pytest

from serving.convert import convert
from serving.model_repository import Repository, generate
from testing import needs
from testing.servers.triton import TINY, Triton, require_triton
from tests.serving.test_server import (  # noqa: F401 -- collected here again, with this module's server
    client,
    test_a_client_that_gives_up_stops_the_work,
    test_a_seed_reproduces_through_the_server,
    test_a_stream_says_what_the_unary_model_says,
    test_a_timeout_of_the_request_is_honoured,
    test_many_clients_with_mixed_requests_get_what_each_would_get_alone,
    test_one_bad_request_never_fails_the_others,
    test_tokens_come_with_their_log_probabilities,
    test_whole_requests_do_not_keep_a_stream_waiting,
)

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def triton(tmp_path_factory):
    needs.package("onnxruntime")
    require_triton()
    work = tmp_path_factory.mktemp("onnx-server")
    model_dir = work / "model"
    model_dir.mkdir()
    convert(TINY, model_dir, "onnxruntime", "int8")
    described = Repository(model_dir=model_dir, runtime="onnxruntime", precision="int8", context_length=2048)
    generate(work / "repository", described)
    server = Triton(work / "repository", model_dir, work / "triton.log")
    server.start()
    yield server
    server.kill()


def test_a_stop_word_ends_the_row_and_is_its_end(client):  # noqa: F811 -- the fixture
    (free,) = client.ids("if __name__ ==", 16)
    stop = [[*free[3:5], 9], [2, 3, -1]]
    assert client.ids("if __name__ ==", 16, stop=stop) == [free[:5]]
