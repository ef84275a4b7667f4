"""GitLab's request bodies, with GitLab's limits: 200 at a limit, 422 above it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.body import Body, Int

Name = Annotated[str, Field(max_length=255)]
Code = Annotated[str, Field(max_length=100_000)]


class CurrentFile(Body):
    """The file in the editor, cut at the cursor."""

    file_name: Name
    language_identifier: Name | None = None
    content_above_cursor: Code
    content_below_cursor: Code


class Telemetry(Body):
    """Reports on earlier suggestions; accepted and dropped."""

    model_engine: Annotated[str, Field(max_length=50)] | None = None
    model_name: Annotated[str, Field(max_length=50)] | None = None


class ContextItem(Body):
    """A piece of another file."""

    type: Annotated[str, Field(max_length=1024)]
    name: Annotated[str, Field(max_length=1024)]
    content: Annotated[str, Field(max_length=500_000)]


class PromptMessage(Body):
    """One chat message of a version-3 prompt."""

    role: str = "user"
    content: Annotated[str, Field(max_length=500_000)]


class SuggestionBody(Body):
    """The body of ``/v2/completions`` and ``/v2/code/*``."""

    prompt_version: Annotated[Int, Field(ge=1, le=3)] = 1
    project_path: Name | None = None
    project_id: Int | None = None
    current_file: CurrentFile
    prompt: str | list[PromptMessage] | None = None
    prompt_id: Name | None = None
    stream: bool | None = False
    choices_count: Annotated[Int | None, Field(ge=0)] = 0
    telemetry: Annotated[list[Telemetry], Field(max_length=10)] | None = None
    context: Annotated[list[ContextItem], Field(max_length=100)] | None = None
    model_provider: str | None = None
    model_name: Annotated[str, Field(max_length=50)] | None = None
    model_endpoint: str | None = None
    model_api_key: str | None = Field(None, repr=False)
    model_identifier: str | None = None


class EditorPayload(Body):
    """A completion or generation component's payload."""

    file_name: Name
    content_above_cursor: Code
    content_below_cursor: Code = ""
    language_identifier: Name | None = None
    stream: bool | None = False
    choices_count: Annotated[Int | None, Field(ge=0)] = 0
    prompt: str | list[PromptMessage] | None = None


class Component(Body):
    """One component of a version-3 request; its payload depends on its type."""

    type: Literal["code_editor_completion", "code_editor_generation", "code_context"]
    payload: dict[str, Any]
    metadata: dict[str, Any] | None = None


class ComponentsBody(Body):
    """The body of ``/v3/code/completions`` and ``/v4/code/suggestions``."""

    prompt_components: Annotated[list[Component], Field(min_length=1, max_length=100)]


class EditorComponent(Body):
    """An editor component with its payload, so that an error names the field in it."""

    type: Literal["code_editor_completion", "code_editor_generation"]
    payload: EditorPayload


class ContextComponent(Body):
    """A context component."""

    type: Literal["code_context"]
    payload: ContextItem
