"""The model's tokenizer: text to ids and ids to bytes.

User text is encoded literally: ``<|endoftext|>`` in a file is text, not the control token (FauxPilot encodes
it as id 50256). Control tokens are recognised only in text that the gateway itself writes, such as a
template.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as HfTokenizer

from gateway.text.model_files import ModelFiles
from gateway.text.vocabulary import token_bytes

# Below this many characters encoding takes well under a millisecond, less than a trip to a thread and back.
_INLINE_CHARS = 2000


class Tokenizer:
    """Encodes prompts and stop strings, and decodes tokens to bytes."""

    def __init__(self, files: ModelFiles) -> None:
        self._control = HfTokenizer.from_str(files.tokenizer_json)
        self._literal = HfTokenizer.from_str(files.tokenizer_json)
        self._literal.encode_special_tokens = True
        for tokenizer in (self._control, self._literal):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        document = json.loads(files.tokenizer_json)
        self._bytes = token_bytes(document)
        self.control_texts = [token["content"] for token in document.get("added_tokens") or ()]
        self.context_length = files.context_length or 2048
        self.vocab_size = max(files.vocab_size or 0, len(self._bytes))
        self.eos_id = self._end_of_text(files)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Load the tokenizer of a model's folder; raises as ``ModelFiles.read`` does."""
        return cls(ModelFiles.read(folder))

    def _end_of_text(self, files: ModelFiles) -> int:
        """Return the end-of-text id: config.json's, else that of a usual name, else the last id."""
        if files.eos_id is not None:
            return files.eos_id
        for name in ("<|endoftext|>", "</s>", "<eos>", "<|im_end|>"):
            token = self._control.token_to_id(name)
            if token is not None:
                return int(token)
        return self.vocab_size - 1

    def encode(self, text: str) -> list[int]:
        """Encode user text, in which control tokens are not recognised."""
        return list(self._literal.encode(text).ids)

    async def encode_async(self, text: str) -> list[int]:
        """Encode user text without blocking the event loop, however long it is."""
        if len(text) <= _INLINE_CHARS:
            return self.encode(text)
        return await asyncio.to_thread(self._encode_released, text)

    def _encode_released(self, text: str) -> list[int]:
        """Encode with the GIL released, which only the batch call does; its threads slow short text down."""
        return list(self._literal.encode_batch_fast([text])[0].ids)

    async def encode_fragment(self, text: str) -> list[int]:
        """Encode user text inside a prompt: without the beginning-of-text token."""
        return self.without_start(await self.encode_async(text))

    def without_start(self, ids: list[int]) -> list[int]:
        """Return the ids without the beginning-of-text token that some tokenizers put before every text."""
        start = self.encode("")
        return ids[len(start) :] if start and ids[: len(start)] == start else ids

    def encode_control(self, text: str) -> list[int]:
        """Encode the gateway's own text with its control tokens: templates and stop strings."""
        return list(self._control.encode(text, add_special_tokens=False).ids)

    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes: none for control tokens and for ids past the vocabulary's end."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``; broken UTF-8 becomes U+FFFD."""
        return b"".join(map(self.bytes_of, ids)).decode("utf-8", "replace")

    def decode_one(self, token: int) -> str:
        """Return one token's text by itself, as in ``logprobs.tokens``."""
        return self.bytes_of(token).decode("utf-8", "replace")
