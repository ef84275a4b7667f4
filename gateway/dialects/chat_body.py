"""The body of OpenAI's chat endpoint, and its conversion to a ``CompletionRequest``."""

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.body import Body, Int
from gateway.completion.types import CompletionRequest
from gateway.dialects.chat_tools import Structure, ToolCall, ToolFields
from gateway.dialects.deps import stops_of
from gateway.dialects.sampling_body import (
    SamplingBody,
    check,
    check_choices,
    max_tokens,
    sampling_of,
    unsupported,
)
from gateway.errors import invalid
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.text.chat import Message
from gateway.text.prompt import Prompt

_MAX_MESSAGES = 1024
_MAX_CALLS = 128
# OpenAI's newer name of a role that templates know by its old one.
_ROLES = {"developer": "system"}


class TextPart(Body):
    """One part of a message. Images, audio and files are refused: the served models take text only."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """One turn of a chat: text, an assistant's tool calls, or in the role ``tool`` what one returned."""

    role: Annotated[str, Field(min_length=1, max_length=32)]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall] | None, Field(max_length=_MAX_CALLS)] = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The content, its parts joined."""
        parts = self.content or ""
        return parts if isinstance(parts, str) else "".join(part.text for part in parts)

    @property
    def uses_tools(self) -> bool:
        """Whether a template must know tools to render the turn."""
        return bool(self.tool_calls) or self.role == "tool"

    @property
    def message(self) -> Message:
        """The turn as templates know it."""
        members: dict[str, Any] = {}
        if self.tool_calls:
            members["tool_calls"] = [call.for_template() for call in self.tool_calls]
        if self.role == "tool":
            members |= {"tool_call_id": self.tool_call_id or "", "name": self.name or ""}
        return Message(_ROLES.get(self.role, self.role), self.text, members)


class ChatBody(ToolFields, SamplingBody):
    """Chat-only fields."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=_MAX_MESSAGES)]
    max_completion_tokens: Annotated[Int | None, Field(ge=0)] = None
    logprobs: bool = False
    top_logprobs: Annotated[Int | None, Field(ge=0, le=20)] = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None


def to_request(
    body: ChatBody, settings: Settings, metrics: Metrics, structure: Structure
) -> CompletionRequest:
    """Return the request; without a requested length the model ends its answer by itself.

    ``structure`` is what the answer has to be. Raises ``ApiError`` 400 for what cannot be done.
    """
    check(body, settings, metrics)
    _check_modes(body)
    check_choices(body, 1, body.n, settings)
    requested = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    messages = [turn.message for turn in body.messages]
    return CompletionRequest(
        prompts=[Prompt(messages=messages, tools=structure.tools, begin=structure.begin)],
        max_tokens=settings.max_tokens_cap if requested is None else max_tokens(requested, settings),
        sampling=sampling_of(body, settings),
        n=body.n,
        stops=stops_of(body.stop, settings),
        seed=body.seed,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        model=body.model,
        constraint=structure.constraint,
        shown=structure.shown,
    )


def _check_modes(body: ChatBody) -> None:
    """Refuse audio, OpenAI's former functions, and alternatives without log probabilities."""
    if body.functions:
        raise invalid("functions is not supported. Send tools.", "functions", "unsupported_parameter")
    if set(body.modalities or ()) - {"text"}:
        raise unsupported("modalities")
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs needs logprobs: true.", "top_logprobs")
