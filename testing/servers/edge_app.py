"""A small application behind the real ``Edge``, whose guarantees must hold for any route."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from gateway import error_responses
from gateway.auth.authenticate import authenticate
from gateway.caller import Caller
from gateway.edge import Edge
from gateway.errors import ApiError
from gateway.settings import Settings


class Switch:
    """The double of an engine: whether it is ready, and how often that was checked."""

    def __init__(self) -> None:
        self.ready, self.checks = True, 0
        self.working, self.finish = asyncio.Event(), asyncio.Event()

    async def check(self) -> bool:
        self.checks += 1
        return self.ready


def make_app(**settings: Any) -> tuple[FastAPI, Edge, Switch]:
    """Return an application with a completion route that takes ``sleep`` seconds."""
    edge = Edge(Settings(**{"auth": "none", "metrics_port": None, **settings}))
    switch = Switch()
    app = FastAPI()
    edge.install(app, switch.check)
    gitlab = edge.settings.auth_mode == "gitlab"

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        content = error_responses.body(error, request.url.path, gitlab=gitlab)
        return JSONResponse(content, error.status, headers=error_responses.headers(error))

    async def complete(
        request: Request,
        caller: Annotated[Caller, Depends(authenticate)],
        sleep: float = 0,
        until_finish: bool = False,
    ) -> dict[str, Any]:
        size = len(await request.body())
        async with edge.admission.slot(caller, request.state.request_id) as waited:
            if until_finish:
                switch.working.set()
                await switch.finish.wait()
            await asyncio.sleep(sleep)
        await edge.admission.charge(caller, size)
        return {"size": size, "caller": caller.id, "user": caller.user, "waited": waited}

    app.add_exception_handler(ApiError, refuse)
    for path in ("/v1/completions", "/v2/completions"):
        app.add_api_route(path, complete, methods=["POST"], response_model=None)
    return app, edge, switch


@asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that calls the application in this process, with its ``Edge`` running."""
    edge: Edge = app.state.edge
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, **options)
    async with edge.running(), httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
