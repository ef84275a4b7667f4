"""Prompts: from a client's text, ids or messages to token ids that fit the model's context."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.errors import ApiError, invalid
from gateway.text.chat import ChatTemplate, Message
from gateway.text.fim import PREFIX, SUFFIX, FimTemplate
from gateway.text.tokenizer import Tokenizer

# At most this many of the kept tokens are dropped so that the prompt starts at a line's beginning.
_LINE_SEARCH = 64


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt as the client sent it: text or ids, and the text after the cursor.

    ``parts`` mixes ids and texts in one prompt (llama.cpp). ``tag`` precedes the text and survives truncation
    (GitLab's ``<python>``); ``files`` are (name, text) of other files. ``keep`` is an explicit number of
    prompt tokens, and ``cut_left`` whether the beginning or the end is cut to it. ``messages`` are a chat's
    and never cut.
    """

    text: str | None = None
    ids: Sequence[int] | None = None
    parts: Sequence[int | str] | None = None
    suffix: str | None = None
    tag: str = ""
    files: Sequence[tuple[str, str]] = ()
    keep: int | None = None
    cut_left: bool = True
    messages: Sequence[Message] | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    begin: str = ""


@dataclass(frozen=True, slots=True)
class BuiltPrompt:
    """The ids for the engine, how many tokens may follow, and whether the prompt was cut to fit."""

    ids: list[int]
    max_tokens: int
    truncated: bool
    fim: bool = False


def no_fim(param: str) -> ApiError:
    """Return the 400 for a suffix, in the field ``param``, that the model has no tokens for."""
    return invalid(
        f"This model cannot fill in the middle, so it cannot use {param}. Leave out {param}, or ask the"
        " administrator to serve a model that can, such as Qwen2.5-Coder or StarCoder2.",
        param,
        "unsupported_parameter",
    )


class PromptBuilder:
    """Encodes prompts and fits them into ``context_length`` tokens, or refuses them without ``truncate``."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        fim: FimTemplate | None,
        context_length: int,
        *,
        truncate: bool,
        chat: ChatTemplate | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._fim = fim
        self._chat = chat
        self._context = context_length
        self._truncate = truncate

    async def build(self, prompt: Prompt, max_tokens: int) -> BuiltPrompt:
        """Return ids that leave room for ``max_tokens`` more.

        A completion larger than half the context never pushes the prompt out: ``max_tokens`` shrinks instead.
        Raises 400 ``context_length_exceeded`` where truncation is off, 400 for ids that do not exist, and 400
        for a suffix that the model cannot use.
        """
        reserved = min(max_tokens, self._context // 2)
        limit = self._context - reserved
        if prompt.suffix:
            ids, truncated = await self._fill_in_middle(prompt, limit)
            return BuiltPrompt(ids, min(max_tokens, self._context - len(ids)), truncated, fim=True)
        if prompt.messages is not None:
            return await self._conversation(prompt, max_tokens)
        ids, whole = await self._encode(prompt)
        if prompt.keep is not None and len(ids) > prompt.keep:
            ids, whole = ids[-prompt.keep :] if prompt.cut_left else ids[: prompt.keep], True
        if not self._truncate and len(ids) + max_tokens > self._context:
            raise self._too_long(len(ids), max_tokens, whole=whole)
        truncated = len(ids) > limit
        if truncated:
            ids = self._keep_end(prompt, ids, limit)
        return BuiltPrompt(ids, min(max_tokens, self._context - len(ids)), truncated)

    async def _conversation(self, prompt: Prompt, max_tokens: int) -> BuiltPrompt:
        """Return a chat's ids; its turns are never cut, because only the client knows which may go."""
        if self._chat is None:
            raise invalid(
                "This model has no chat template, so it can't chat. Send the prompt to /v1/completions.",
                "messages",
                "unsupported_endpoint",
            )
        ids = await self._chat.encode(prompt.messages or (), prompt.tools, prompt.begin, most=self._context)
        if ids is None:
            raise self._too_long(self._context + 1, max_tokens, whole=False)
        left = self._context - len(ids)
        if left < 1 or (max_tokens > left and not self._truncate):
            raise self._too_long(len(ids), max_tokens)
        return BuiltPrompt(ids, min(max_tokens, left), truncated=False)

    def _too_long(self, prompt_tokens: int, max_tokens: int, *, whole: bool = True) -> ApiError:
        """Return FauxPilot's refusal. Without ``whole``, the prompt has more tokens than were counted."""
        least = "" if whole else "at least "
        return invalid(
            f"This model's maximum context length is {self._context}, however you requested {least}"
            f"{prompt_tokens + max_tokens} tokens ({least}{prompt_tokens} in your prompt; "
            f"{max_tokens} for the completion). "
            "Please reduce your prompt; or completion length.",
            code="context_length_exceeded",
        )

    async def _encode(self, prompt: Prompt) -> tuple[list[int], bool]:
        """Return the prompt's ids before fitting, and whether they are all: more than fit are not needed.

        An empty prompt is one end-of-text token, as OpenAI defines it.
        """
        if prompt.ids is not None:
            return self._checked(prompt.ids), True
        if prompt.parts is not None:
            return await self._joined(prompt.parts)
        from_end = prompt.keep is None or prompt.cut_left
        text = prompt.tag + (prompt.text or "")
        ids, whole = await self._tokenizer.encode_bounded(
            self._tokenizer.encode, text, self._context, from_end=from_end
        )
        return ids or [self._tokenizer.eos_id], whole

    async def _joined(self, parts: Sequence[int | str]) -> tuple[list[int], bool]:
        self._checked([part for part in parts if isinstance(part, int)])
        joined: deque[int] = deque()
        for position, part in reversed(list(enumerate(parts))):
            ids, whole = (
                ([part], True)
                if isinstance(part, int)
                else await self._tokenizer.encode_bounded(self._tokenizer.fragment, part, self._context)
            )
            joined.extendleft(reversed(ids))
            if len(joined) > self._context and not (whole and position == 0):
                return list(joined), False
        return list(joined) or [self._tokenizer.eos_id], True

    async def _cleaned(self, text: str, fim: FimTemplate, *, from_end: bool = True) -> tuple[list[int], bool]:
        def encode(part: str) -> list[int]:
            return self._tokenizer.fragment(fim.clean(part))

        return await self._tokenizer.encode_bounded(encode, text, self._context, from_end=from_end)

    def _checked(self, ids: Sequence[int]) -> list[int]:
        size = self._tokenizer.vocab_size
        for token in ids:
            if not 0 <= token < size:
                raise invalid(
                    f"Token id {token} is out of vocabulary. Use ids from 0 to {size - 1}.", "prompt"
                )
        return list(ids) or [self._tokenizer.eos_id]

    def _keep_end(self, prompt: Prompt, ids: list[int], limit: int) -> list[int]:
        """Return the last ids, from a line start when one is near, after the tag."""
        tag = self._tokenizer.encode_control(prompt.tag) if prompt.tag else []
        return tag + self._from_line_start(ids[-max(1, limit - len(tag)) :])

    def _from_line_start(self, ids: list[int]) -> list[int]:
        """Return the ids without the rest of a cut line, so that the prompt starts at a line's beginning."""
        for position in range(min(_LINE_SEARCH, len(ids) // 4)):
            if self._tokenizer.bytes_of(ids[position]).endswith(b"\n"):
                return ids[position + 1 :]
        return ids

    async def _fill_in_middle(self, prompt: Prompt, limit: int) -> tuple[list[int], bool]:
        """Return the template's ids with prefix and suffix, cut to what the sentinels leave of ``limit``."""
        if self._fim is None:
            raise no_fim("suffix")
        suffix, whole_suffix = await self._cleaned(prompt.suffix or "", self._fim, from_end=False)
        prefix, whole_prefix = await self._fim_prefix(prompt, self._fim)
        start = list(self._tokenizer.start)
        literal = {piece: self._literal(piece) for piece in self._fim.pieces if piece not in (PREFIX, SUFFIX)}
        room = max(2, limit - len(start) - sum(map(len, literal.values())))
        kept_suffix = suffix[: max(room // 4, room - len(prefix))]
        kept_prefix = prefix[-(room - len(kept_suffix)) :]
        if len(kept_prefix) < len(prefix):
            kept_prefix = self._from_line_start(kept_prefix)
        truncated = len(kept_prefix) < len(prefix) or len(kept_suffix) < len(suffix)
        if truncated and not self._truncate:
            count = len(prefix) + len(suffix)
            raise self._too_long(count, self._context - limit, whole=whole_prefix and whole_suffix)
        files = await self._other_files(prompt, room - len(kept_prefix) - len(kept_suffix))
        values = literal | {PREFIX: kept_prefix, SUFFIX: kept_suffix}
        return start + files + [token for piece in self._fim.pieces for token in values[piece]], truncated

    async def _fim_prefix(self, prompt: Prompt, fim: FimTemplate) -> tuple[list[int], bool]:
        """Return the ids before the cursor, the client's or its text's, and whether they are all."""
        if prompt.ids is not None:
            return self._checked(prompt.ids), True
        return await self._cleaned(prompt.text or "", fim)

    def _literal(self, piece: str | int) -> list[int]:
        """Return the ids of a template's own token or text."""
        return [piece] if isinstance(piece, int) else self._tokenizer.encode_control(piece)

    async def _other_files(self, prompt: Prompt, room: int) -> list[int]:
        """Return other files as context: whole files only, the last ones preferred.

        Without a separator token in the template there are none.
        """
        separator = self._fim.file_separator if self._fim else None
        if separator is None:
            return []
        separator_ids = self._literal(separator)
        kept: list[int] = []
        for name, text in reversed(prompt.files):
            assert self._fim is not None  # noqa: S101  -- a separator comes from a template
            ids, whole = await self._cleaned(f"{name}\n{text}", self._fim)
            ids = separator_ids + ids
            if not whole or len(kept) + len(ids) > room:
                break
            kept = ids + kept
        return kept
