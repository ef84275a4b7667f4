"""Token ids out of llama.cpp's stream, also where it holds tokens back."""

from types import SimpleNamespace

import pytest

pytest.importorskip("gguf", reason="needs gguf: install requirements/llamacpp.txt")

from serving.backend.runtimes.pieces import Pieces


class Reader:
    """A GGUF header with a vocabulary and nothing else."""

    def __init__(self, model: str, tokens: list[str]) -> None:
        self._fields = {"tokenizer.ggml.model": model, "tokenizer.ggml.tokens": tokens}

    def get_field(self, name):
        return SimpleNamespace(contents=lambda: self._fields[name])


def chunk(text, token, data, log_prob=-1.0):
    entry = {"id": token, "bytes": list(data), "logprob": log_prob}
    return {"choices": [{"text": text, "logprobs": {"content": [entry]}}]}


def test_a_chunk_of_one_token_is_that_token():
    pieces = Pieces(Reader("gpt2", ["a", "b"]))
    assert pieces.tokens(chunk("b", 1, b"b")) == [(1, -1.0)]


def test_held_byte_tokens_of_sentencepiece_are_found_again():
    pieces = Pieces(Reader("llama", ["a", "<0xE2>", "<0x82>", "<0xAC>"]))
    assert [token for token, _ in pieces.tokens(chunk("€", 3, b"\xac"))] == [1, 2, 3]


def test_held_tokens_of_a_byte_level_vocabulary_are_found_again():
    # GPT-2 writes the bytes E2 82 AC as these three characters.
    pieces = Pieces(Reader("gpt2", ["x", "âĤ", "¬"]))
    assert [token for token, _ in pieces.tokens(chunk("€", 2, b"\xac"))] == [1, 2]


def test_the_last_chunk_has_no_token():
    assert Pieces(Reader("gpt2", ["x"])).tokens({"choices": [{"text": "", "logprobs": None}]}) == []
