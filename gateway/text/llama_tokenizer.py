"""The tokenizer of a GGUF file: llama.cpp's own, so its ids are those that the engine makes of a text.

Nothing here knows tokenizers by name: what a file's tokenizer is, which tokens end a completion and which
mark a gap is for llama.cpp to say.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from gateway.text.fim import FimTemplate
from gateway.text.llama_library import Vocabulary
from gateway.text.tokenizer import Tokenizer

_DEFAULT_CONTEXT = 2048
_SENTINELS = ("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")


class LlamaTokenizer(Tokenizer):
    """Encodes with llama.cpp. Raises ``ValueError`` for a file that llama.cpp cannot read.

    Context, chat template and its tokens are the file's own where they are not given.
    """

    # A quarter of a millisecond.
    inline_chars = 500

    def __init__(
        self,
        file: Path,
        context_length: int | None = None,
        chat_template: str | None = None,
        chat_tokens: Mapping[str, str] | None = None,
    ) -> None:
        self._vocabulary = Vocabulary(file)
        self.chat_template = chat_template or self._vocabulary.metadata("tokenizer.chat_template")
        self.chat_tokens = self._own_chat_tokens() | dict(chat_tokens or {})
        self.context_length = context_length or self._own_context() or _DEFAULT_CONTEXT
        self.vocab_size = self._vocabulary.size
        start = self._vocabulary.special("bos") if self._vocabulary.starts_with_bos else None
        self.start = [] if start is None else [start]
        ends = (self._vocabulary.special(name) for name in ("eos", "eot"))
        self.eos_id = next((token for token in ends if token is not None), self.vocab_size - 1)

    def _own_chat_tokens(self) -> dict[str, str]:
        tokens = {f"{name}_token": self._vocabulary.special(name) for name in ("bos", "eos")}
        return {name: self._vocabulary.text(token) for name, token in tokens.items() if token is not None}

    def _own_context(self) -> int:
        architecture = self._vocabulary.metadata("general.architecture")
        return int(self._vocabulary.metadata(f"{architecture}.context_length") or 0)

    @cached_property
    def control_texts(self) -> list[str]:  # type: ignore[override]  # only chats need it: it takes 50 ms
        """Return the texts of control tokens."""
        return [self._vocabulary.text(token) for token in self._vocabulary.control_tokens()]

    def encode(self, text: str) -> list[int]:
        """Encode user text, in which control tokens are not recognised."""
        return self._vocabulary.tokenize(text, start=True, control=False)

    def fragment(self, text: str) -> list[int]:
        """Encode user text inside a prompt: without the tokens that the model wants around a text."""
        return self._vocabulary.tokenize(text, start=False, control=False)

    def encode_control(self, text: str) -> list[int]:
        """Encode the gateway's own text with its control tokens: templates and stop strings."""
        return self._vocabulary.tokenize(text, start=False, control=True)

    def with_start(self, ids: list[int]) -> list[int]:
        """Return the ids with one beginning-of-text token where the model wants it, as llama.cpp's server."""
        return ids if ids[: len(self.start)] == self.start else [*self.start, *ids]

    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes: none for control tokens and for ids past the vocabulary's end."""
        return self._vocabulary.piece(token)

    def is_end(self, token: int) -> bool:
        """Return whether llama.cpp ends a completion at this token."""
        return self._vocabulary.is_end(token)

    def fim_template(self) -> FimTemplate | None:
        """Return llama.cpp's own template, prefix first, of the tokens that it finds in the file."""
        prefix, suffix, middle, separator = (
            self._vocabulary.special(f"fim_{name}") for name in ("pre", "suf", "mid", "sep")
        )
        if prefix is None or suffix is None or middle is None:
            return None
        ids = (self._vocabulary.special(name) for name in _SENTINELS)
        sentinels = dict.fromkeys(self._vocabulary.text(token) for token in ids if token is not None)
        return FimTemplate((prefix, "{prefix}", suffix, "{suffix}", middle), tuple(sentinels), separator)
