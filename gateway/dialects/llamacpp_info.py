"""What llama.cpp's clients ask besides completions: the model, its properties, and its tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.body import Body, parse, read_json
from gateway.dialects.deps import CallerDep, GatewayDep, NamesDep, ids_prompt
from gateway.dialects.openai import model_list
from gateway.errors import invalid
from gateway.responses import json_response

router = APIRouter()


class Content(Body):
    """The body of ``/tokenize``."""

    content: str = ""
    with_pieces: bool = False


class Ids(Body):
    """The body of ``/detokenize``."""

    tokens: Annotated[tuple[Any, ...], Field(max_length=262_144)] = ()


@router.get("/models")
async def models(http: Request, names: NamesDep) -> Response:
    """List the served model. No key is asked for, as in llama.cpp's server: its name is all that is told."""
    return json_response(model_list(http, names))


@router.get("/props")
async def properties(http: Request, _: CallerDep, gateway: GatewayDep, names: NamesDep) -> Response:
    """Return what llama.vscode and llama.vim read before their first request."""
    context: int = http.app.state.context_length
    return json_response(
        {
            "default_generation_settings": {"id": 0, "n_ctx": context, "is_processing": False},
            "total_slots": gateway.settings.max_in_flight,
            "model_path": names.served,
            "model_alias": names.served,
            "is_sleeping": False,
        }
    )


@router.post("/tokenize")
async def tokenize(http: Request, _: CallerDep, gateway: GatewayDep) -> Response:
    """Return a text's token ids; control tokens written in it are text."""
    body = parse(Content, await read_json(http))
    tokenizer = gateway.completer.tokenizer
    ids = await tokenizer.encode_async(body.content) if body.content else []
    if not body.with_pieces:
        return json_response({"tokens": ids})
    return json_response({"tokens": [{"id": token, "piece": tokenizer.decode_one(token)} for token in ids]})


@router.post("/detokenize")
async def detokenize(http: Request, _: CallerDep, gateway: GatewayDep) -> Response:
    """Return the text of token ids; raises 400 for ids that do not exist."""
    tokenizer = gateway.completer.tokenizer
    ids = list(ids_prompt(list(parse(Ids, await read_json(http)).tokens)).ids or ())
    if any(not 0 <= token < tokenizer.vocab_size for token in ids):
        raise invalid(f"Token ids go from 0 to {tokenizer.vocab_size - 1}.", "tokens")
    return json_response({"content": tokenizer.decode(ids)})
