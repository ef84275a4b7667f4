"""Gateways under test: in front of a recording fake, and in front of the real server."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2_grpc

from gateway.app import create_app
from gateway.settings import Settings
from gateway.text.loading import load_tokenizer
from gateway.text.tokenizer import Tokenizer
from testing.doubles.fake_gitlab import gitlab
from testing.doubles.fake_issuer import issuer
from testing.servers.redis_server import redis_server
from tests.gateway.codegen_tokenizer import write_model_dir
from tests.gateway.scripted_triton import FakeTriton, Script

__all__ = ["gitlab", "issuer", "redis_server"]

TINY = Path(__file__).resolve().parents[2] / "models" / "tiny-codegen"


def settings(**changes: object) -> Settings:
    """Return settings that depend on nothing outside; no metrics port, no authentication."""
    return Settings(**{"auth": "none", "metrics_port": None, "model_dir": TINY, **changes})


@pytest.fixture(scope="session")
def codegen_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CodeGen's real tokenizer, for recordings that were made with it."""
    return write_model_dir(tmp_path_factory.mktemp("codegen"))


@pytest.fixture(scope="session")
def codegen(codegen_dir: Path) -> Tokenizer:
    return load_tokenizer(codegen_dir)


@pytest.fixture(scope="session")
def tiny() -> Tokenizer:
    return load_tokenizer(TINY)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def fake(script: Script, codegen: Tokenizer) -> AsyncIterator[str]:
    """Run the recording server and give its address."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(FakeTriton(script, codegen), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def client(
    fake: str, codegen_dir: Path, codegen: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a gateway, with CodeGen's tokenizer, in front of the recording server."""
    # Reading 50 000 tokens takes a second, and every test has an app of its own.
    monkeypatch.setattr("gateway.wiring.load_tokenizer", lambda _folder: codegen)
    app = create_app(settings(model_dir=codegen_dir, engine_url=fake, model="codegen-350M-mono"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as found:
        yield found
    await app.state.completion_service.completer.close()
