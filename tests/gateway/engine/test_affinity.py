"""Which of several servers a request goes to: the one that has read the beginning of its prompt."""

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from gateway.engine.affinity import Affinity
from gateway.engine.base import GenerateRequest, Sampling
from gateway.engine.triton import TritonEngine
from gateway.text.tokenizer import Tokenizer
from tests.gateway.scripted_triton import FakeTriton, Script

MODEL, STREAM = "fastertransformer", "fastertransformer_stream"


def generate(person: str | None, file: int = 0, typed: int = 0) -> GenerateRequest:
    """Return a request in a file of 40 tokens, after which somebody has typed."""
    prompt = [*range(file, file + 40), *range(typed)]
    return GenerateRequest(prompt, 4, Sampling(0), [7], caller=person)


def name(affinity: Affinity, request: GenerateRequest) -> str | None:
    with affinity.name(request) as found:
        return found


def test_what_is_typed_below_the_beginning_changes_nothing_and_a_person_or_a_file_does():
    affinity = Affinity()
    names = {name(affinity, generate("a", typed=typed)) for typed in range(3)}
    assert len(names) == 1
    assert len(names | {name(affinity, generate("b")), name(affinity, generate("a", file=1))}) == 3


def test_without_a_caller_any_server_will_do():
    assert name(Affinity(), generate(None)) is None


def test_a_beginning_that_many_requests_share_does_not_fill_one_server():
    affinity = Affinity()
    with ExitStack() as stack:
        at_once = [stack.enter_context(affinity.name(generate("team"))) for _ in range(7)]
        assert at_once.count(None) == 3
        assert len(set(at_once)) == 2
        assert name(affinity, generate("other")) is not None
    assert name(affinity, generate("team")) is not None
    assert not affinity._under_way


@asynccontextmanager
async def server(script: Script, tokenizer: Tokenizer):
    """Run a server with this project's streaming model; yield its address and a function that ends it."""
    script.models, script.decoupled, script.row_streams = (MODEL, STREAM), (STREAM,), True
    running = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(FakeTriton(script, tokenizer), running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        yield f"127.0.0.1:{port}", running.stop
    finally:
        await running.stop(None)


@pytest.fixture
async def three(codegen: Tokenizer):
    """Run an engine on three servers; yield it, their scripts, and functions that end them."""
    scripts = [Script() for _ in range(3)]
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(server(script, codegen)) for script in scripts]
        engine = TritonEngine("ipv4:" + ",".join(address for address, _ in found), 50256)
        yield engine, scripts, [stop for _, stop in found]
        await engine.close()


async def served_by(engine, scripts, request) -> int:
    """Return the number of the server that gets a request."""
    before = [len(script.requests) for script in scripts]
    await engine.complete(request)
    (number,) = [each for each, script in enumerate(scripts) if len(script.requests) > before[each]]
    return number


async def test_a_person_who_types_comes_back_to_one_server_and_people_share_them(three):
    engine, scripts, _ = three
    places = {}
    for person in map(str, range(24)):
        found = {await served_by(engine, scripts, generate(person, typed=typed)) for typed in range(3)}
        assert len(found) == 1
        places[person] = found.pop()
    assert set(places.values()) == {0, 1, 2}


async def test_while_a_server_is_away_its_people_go_to_another_and_the_others_stay(three):
    engine, scripts, stops = three
    people = [str(number) for number in range(12)]
    before = {person: await served_by(engine, scripts, generate(person)) for person in people}
    gone = before["0"]
    await stops[gone](None)
    after = {person: await served_by(engine, scripts, generate(person)) for person in people}
    assert gone not in after.values()
    assert all(after[person] == place for person, place in before.items() if place != gone)


async def test_a_request_that_failed_is_repeated_on_any_server(three):
    engine, scripts, _ = three
    place = await served_by(engine, scripts, generate("a"))
    asked = len(scripts[place].requests)
    scripts[place].fail_first = 1
    await engine.complete(generate("a"))
    assert len(scripts[place].requests) > asked, "it came here first"
    assert sum(len(script.requests) for script in scripts) == asked + 2


async def test_only_what_is_read_is_asked_of_a_streaming_model(three):
    engine, scripts, _ = three
    place = await served_by(engine, scripts, generate("a"))
    (request,) = scripts[place].requests
    assert {output.name for output in request.outputs} == {"output_ids", "row_index", "row_final"}
