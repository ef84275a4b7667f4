"""A model's tokenizer: text to ids and ids to bytes.

User text is encoded literally: ``<|endoftext|>`` in a file is text, not the control token (FauxPilot encodes
it as id 50256). Control tokens are recognised only in text that the gateway itself writes, such as a
template.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.text.fim import FimTemplate

# Not asyncio's own threads: long texts would keep name look-ups and files waiting.
_threads = ThreadPoolExecutor(thread_name_prefix="tokenizer")
# So much text is encoded whole, which takes some 50 ms; of more, as much as its tokens are likely to need.
_WHOLE_CHARS, _CHARS_PER_TOKEN = 1 << 16, 8
# Where a text is cut, the first tokens are not those of the whole text.
_SEAM = 16
T = TypeVar("T")


def bounded(
    encode: Callable[[str], list[int]], text: str, most: int, *, from_end: bool = True
) -> tuple[list[int], bool]:
    """Return a text's ids, or those of one end of it that has more than ``most``; and whether it is all.

    A megabyte of text would take a second of which nothing is used.
    """
    chars = max(_WHOLE_CHARS, most * _CHARS_PER_TOKEN)
    while chars < len(text):
        ids = encode(text[-chars:] if from_end else text[:chars])
        if len(ids) > most + _SEAM:
            return ids, False
        chars *= 4
    return encode(text), True


async def in_thread(work: Callable[..., T], *args: object) -> T:
    """Return the result of work in a tokenizer's thread."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work, *args)


class Tokenizer(ABC):
    """Encodes prompts and stop strings, and decodes tokens to bytes.

    ``context_length`` is in tokens; ``vocab_size`` counts the ids; ``eos_id`` is the end-of-text token's;
    ``start`` are the ids that the model wants before every text; ``control_texts`` are the texts of control
    tokens, which are not control tokens where a user typed them. ``chat_template`` is Jinja and
    ``chat_tokens`` are the texts that it may use by name: ``bos_token``, ``eos_token``.
    """

    context_length: int
    vocab_size: int
    eos_id: int
    start: Sequence[int]
    control_texts: Sequence[str]
    chat_template: str | None
    chat_tokens: Mapping[str, str]
    # Up to this many characters are encoded at once: it takes less than a trip to a thread and back.
    inline_chars: int

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Encode user text, in which control tokens are not recognised."""

    @abstractmethod
    def fragment(self, text: str) -> list[int]:
        """Encode user text inside a prompt: without the tokens that the model wants around a text."""

    @abstractmethod
    def encode_control(self, text: str) -> list[int]:
        """Encode the gateway's own text with its control tokens: templates and stop strings."""

    @abstractmethod
    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes: none for control tokens and for ids past the vocabulary's end."""

    @abstractmethod
    def is_end(self, token: int) -> bool:
        """Return whether the token ends a completion."""

    @abstractmethod
    def fim_template(self) -> FimTemplate | None:
        """Return the template of the vocabulary's own fill-in-the-middle tokens; ``None`` without them."""

    async def encode_async(self, text: str) -> list[int]:
        """Encode user text without blocking the event loop, however long it is."""
        return await self._off_loop(self.encode, text)

    async def encode_fragment(self, text: str) -> list[int]:
        """Encode user text inside a prompt without blocking the event loop; see ``fragment``."""
        return await self._off_loop(self.fragment, text)

    async def encode_bounded(
        self, encode: Callable[[str], list[int]], text: str, most: int, *, from_end: bool = True
    ) -> tuple[list[int], bool]:
        """Encode a text as ``bounded`` does, without blocking the event loop."""
        return await self._off_loop(lambda each: bounded(encode, each, most, from_end=from_end), text)

    async def _off_loop(self, work: Callable[[str], T], text: str) -> T:
        return work(text) if len(text) <= self.inline_chars else await in_thread(work, text)

    def with_start(self, ids: list[int]) -> list[int]:
        """Return a rendered chat's ids with the beginning-of-text token where the template left it to us."""
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; broken UTF-8 becomes U+FFFD."""
        return b"".join(map(self.bytes_of, ids)).decode("utf-8", "replace")

    def decode_one(self, token: int) -> str:
        """Return one token's text by itself, as in ``logprobs.tokens``."""
        return self.bytes_of(token).decode("utf-8", "replace")
