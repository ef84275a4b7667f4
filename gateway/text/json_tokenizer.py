"""The tokenizer of a ``tokenizer.json``, for runtimes that take ids and have no tokenizer of their own."""

import json

from tokenizers import Tokenizer as HfTokenizer

from gateway.text.fim import FimTemplate
from gateway.text.model_files import ModelFiles
from gateway.text.tokenizer import Tokenizer
from gateway.text.vocabulary import token_bytes

_DEFAULT_CONTEXT = 2048


class JsonTokenizer(Tokenizer):
    """Encodes with Hugging Face's library. Raises ``TypeError`` for vocabularies that are not BPE."""

    # Well under a millisecond.
    inline_chars = 2000

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
        self.context_length = files.context_length or _DEFAULT_CONTEXT
        self.vocab_size = max(files.vocab_size or 0, len(self._bytes))
        self.eos_id = self._end_of_text(files)
        self.start = self.encode("")
        self.chat_template, self.chat_tokens = files.chat_template, files.chat_tokens

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
        if len(text) <= self.inline_chars:
            return list(self._literal.encode(text).ids)
        # Only the batch call releases the GIL; its threads slow short text down.
        return list(self._literal.encode_batch_fast([text])[0].ids)

    def fragment(self, text: str) -> list[int]:
        """Encode user text inside a prompt: without the ids that stand before every text."""
        ids = self.encode(text)
        return ids[len(self.start) :] if self.start and ids[: len(self.start)] == self.start else ids

    def encode_control(self, text: str) -> list[int]:
        """Encode the gateway's own text with its control tokens: templates and stop strings."""
        return list(self._control.encode(text, add_special_tokens=False).ids)

    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes: none for control tokens and for ids past the vocabulary's end."""
        return self._bytes[token] if 0 <= token < len(self._bytes) else b""

    def is_end(self, token: int) -> bool:
        """Return whether the token is the end-of-text token."""
        return token == self.eos_id

    def fim_template(self) -> FimTemplate | None:
        """Return ``None``: a ``tokenizer.json`` does not say which tokens are for filling in."""
        return None
