"""OpenAI's tools and response formats: their bodies, and what they ask of prompt, engine and answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from gateway.body import Body, whole_characters
from gateway.engine.base import Constraint
from gateway.errors import ApiError, invalid
from gateway.text import constraint
from gateway.text.json_calls import JsonCallReader
from gateway.text.parameter_calls import ParameterCallReader
from gateway.text.tool_calls import ToolCallReader
from gateway.text.tool_grammar import Calls
from gateway.text.tool_syntax import ToolSyntax

_MAX_TOOLS = 128
_NAME = r"^[A-Za-z0-9_.-]{1,64}$"
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


class Function(Body):
    """A function; without ``parameters`` it has none."""

    name: Annotated[str, Field(pattern=_NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The schema of its arguments, which are always an object."""
        return _NO_ARGUMENTS if self.parameters is None else {"type": "object", **self.parameters}


class Tool(Body):
    """A tool that the model may call. Those that OpenAI runs itself are refused."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """A function's name."""

    name: str


class NamedTool(Body):
    """The choice of one function."""

    type: Literal["function"]
    function: FunctionName


class CalledFunction(Body):
    """A function and its arguments as JSON text, as a model wrote them."""

    name: Annotated[str, Field(pattern=_NAME)]
    arguments: str = "{}"


class ToolCall(Body):
    """A call in an assistant's earlier turn."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction

    def for_template(self) -> dict[str, Any]:
        """Return the call as templates know it, with an object of arguments where the text is one."""
        try:
            arguments = json.loads(whole_characters(self.function.arguments.encode()) or b"{}")
        except (ValueError, RecursionError):
            arguments = self.function.arguments
        if constraint.is_deep(arguments):
            arguments = self.function.arguments
        function = {"name": self.function.name, "arguments": arguments}
        return {"id": self.id or "", "type": self.type, "function": function}


class NamedSchema(Body):
    """A JSON schema; ``strict`` refuses what cannot be enforced to the letter."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    name: Annotated[str, Field(pattern=_NAME)] = "answer"
    schema_: dict[str, Any] = Field(default_factory=lambda: {"type": "object"}, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @property
    def answer(self) -> NamedSchema | None:
        """The schema of the answer; ``None`` for any text. Raises ``ApiError`` 400 where it is missing."""
        if self.type == "json_schema" and self.json_schema is None:
            raise invalid("response_format of type json_schema needs json_schema.", "response_format")
        return {"text": None, "json_object": NamedSchema()}.get(self.type, self.json_schema)


class ToolFields(Body):
    """The members of a chat's body that this module reads."""

    tools: Annotated[tuple[Tool, ...], Field(max_length=_MAX_TOOLS)] = ()
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None


@dataclass(frozen=True, slots=True)
class Structure:
    """What an answer has to be: its constraint, the tools in the prompt, and how the calls are read."""

    constraint: Constraint | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    syntax: ToolSyntax | None = None
    functions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forced: bool = False
    single: bool = False
    bare: bool = False

    @property
    def begin(self) -> str:
        """What the prompt ends with: the begin of a call that is forced."""
        return self.syntax.begin if self.syntax and self.forced else ""

    @property
    def shown(self) -> Mapping[str, int]:
        """The control tokens that the answer's text shows, because they are its calls' tags."""
        return self.syntax.tokens if self.syntax else {}

    def reader(self) -> ToolCallReader | None:
        """Return a new reader of one answer's calls; ``None`` for an answer without tools."""
        if self.syntax is None:
            return None
        if self.syntax.form == "parameters":
            return ParameterCallReader(self.syntax, self.functions, begun=self.forced, single=self.single)
        return JsonCallReader(
            self.syntax, self.functions, begun=self.forced, single=self.single, bare=self.bare
        )


def structure(body: ToolFields, syntax: ToolSyntax | None, model: str) -> Structure:
    """Return what the request asks of its answer; ``syntax`` is how the model writes calls.

    Raises ``ApiError`` 400 for tools that the model has no syntax for, and for schemas that are too large,
    too deep or not strict; whether they can be enforced is found out when the request is planned.
    """
    wanted = body.response_format.answer if body.response_format else None
    if wanted is not None:
        constraint.check(wanted.schema_, "response_format", strict=bool(wanted.strict))
    functions = _callable(body)
    if not functions:
        limit = constraint.answer(wanted.schema_, strict=bool(wanted.strict)) if wanted else None
        return Structure(limit)
    if syntax is None:
        raise no_tools(model, "tools")
    forced = body.tool_choice not in (None, "auto")
    parallel = body.parallel_tool_calls and not isinstance(body.tool_choice, NamedTool)
    schemas = {function.name: function.arguments for function in functions}
    limit = Calls(
        schemas,
        syntax,
        parallel=parallel,
        strict=any(f.strict for f in functions) or bool(wanted and wanted.strict),
        begun=forced,
        answer=wanted.schema_ if wanted else None,
    ).constraint()
    return Structure(
        limit,
        [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in body.tools],
        syntax,
        schemas,
        forced=forced,
        single=not body.parallel_tool_calls,
        bare=not forced and wanted is None,
    )


def _callable(body: ToolFields) -> list[Function]:
    """Return the functions that the answer may call. Raises ``ApiError`` 400 for a choice that is none."""
    functions = [tool.function for tool in body.tools]
    names = [function.name for function in functions]
    if len(set(names)) < len(names):
        raise invalid("tools has two functions of one name.", "tools")
    for function in functions:
        if function.arguments["type"] != "object":
            raise invalid(f"The parameters of {function.name} must be of type object.", "tools")
        constraint.check(function.arguments, "tools", strict=bool(function.strict))
    if body.tool_choice == "none":
        return []
    if body.tool_choice is not None and not functions and body.tool_choice != "auto":
        raise invalid("tool_choice needs tools.", "tool_choice")
    if isinstance(body.tool_choice, NamedTool):
        chosen = body.tool_choice.function.name
        if chosen not in names:
            raise invalid(f"tool_choice names {chosen[:64]!r}, which is not in tools.", "tool_choice")
        return [function for function in functions if function.name == chosen]
    return functions


def no_tools(model: str, param: str) -> ApiError:
    """Return the 400 for a model whose template has no tool calls."""
    return invalid(
        f"The chat template of the model {model!r} has no tool calls in a syntax that can be read here. Leave"
        f" out {param}, or ask the administrator to serve a model that has, such as Qwen2.5-Coder-Instruct,"
        " Qwen3-Coder, Llama 3 or Mistral.",
        param,
        "unsupported_parameter",
    )
