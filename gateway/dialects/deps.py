"""What dialects share: FastAPI dependencies, and the reading of prompts and stop strings."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Request

from gateway.auth.authenticate import authenticate
from gateway.caller import Caller
from gateway.completion.service import CompletionService
from gateway.errors import invalid
from gateway.model_names import ModelNames
from gateway.settings import Settings
from gateway.text.prompt import Prompt

# More ids than this cannot fit any context that this gateway serves; checked before any of them is read.
_MAX_IDS = 262_144


# FastAPI runs a plain function in a worker thread: half a millisecond of every request, for one attribute.
async def _service(request: Request) -> CompletionService:
    service: CompletionService = request.app.state.completion_service
    return service


async def _names(request: Request) -> ModelNames:
    names: ModelNames = request.app.state.model_names
    return names


CallerDep = Annotated[Caller, Depends(authenticate)]
ServiceDep = Annotated[CompletionService, Depends(_service)]
NamesDep = Annotated[ModelNames, Depends(_names)]


def prompts_of(value: Any, settings: Settings) -> list[Prompt]:  # noqa: ANN401  -- whatever JSON holds
    """Return prompts from OpenAI's four forms: a string, strings, token ids, lists of token ids.

    Raises 400 for null, an empty list, a mixture of forms, and more than ``max_prompts`` prompts.
    """
    if isinstance(value, str):
        return [Prompt(text=value)]
    if not isinstance(value, list) or not value:
        raise invalid("prompt must be a string, a list of strings, or token ids, and not empty.", "prompt")
    if type(value[0]) is int:
        return [ids_prompt(value)]
    if len(value) > settings.max_prompts:
        raise invalid(f"At most {settings.max_prompts} prompts fit in one request.", "prompt")
    if all(isinstance(item, str) for item in value):
        return [Prompt(text=item) for item in value]
    if all(isinstance(item, list) and item for item in value):
        return [ids_prompt(item) for item in value]
    raise invalid("prompt must hold only strings, only token ids, or only lists of token ids.", "prompt")


def ids_prompt(ids: list[Any]) -> Prompt:
    """Return a prompt of token ids; raises 400 for anything that is not an integer."""
    if len(ids) > _MAX_IDS:
        raise invalid(f"A prompt may hold at most {_MAX_IDS} token ids.", "prompt")
    if not all(type(token) is int for token in ids):
        raise invalid("Token ids must be integers.", "prompt")
    return Prompt(ids=ids)


def stops_of(value: str | Sequence[str] | None, settings: Settings) -> tuple[str, ...]:
    """Return the stop strings without empty ones; a plain string is one. Raises 400 over the limits.

    The limits are higher than OpenAI's four strings, which would refuse editors that send twelve.
    """
    stops = (value,) if isinstance(value, str) else tuple(value or ())
    stops = tuple(stop for stop in stops if stop)
    if len(stops) > settings.max_stops:
        raise invalid(f"At most {settings.max_stops} stop strings are allowed.", "stop")
    if any(len(stop) > settings.max_stop_chars for stop in stops):
        raise invalid(f"A stop string may have at most {settings.max_stop_chars} characters.", "stop")
    return stops


def check_rows(prompts: int, rows: int, settings: Settings) -> None:
    """Raise 400 when a request asks for more completions in total than one request may."""
    if prompts * rows > settings.max_rows:
        raise invalid(
            f"{prompts} prompts with {rows} choices each are {prompts * rows} completions; "
            f"one request may ask for {settings.max_rows}.",
            "n",
        )
