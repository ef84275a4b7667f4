"""A GGUF file's own tokenizer: the gateway must send the ids that llama.cpp makes of the text."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.text import gguf
from gateway.text.tokenizer import Tokenizer
from stackfile.catalogue import ROOT
from testing import gguf_files, needs
from testing.servers.llama_server import running_llama
from testing.servers.triton import TINY
from tests.serving.test_llama_server import ask, ready

TEXTS = [
    "",
    " ",
    "def main(",
    "def add(a, b):\n    return a + b\n",
    "  two  spaces,\ttabs\n\n\nand lines\r\n",
    "for i in range(100_000): print(f'{i:>8}')  # don't",
    "naïve café · 日本語のテキスト 🙂 ﷺ",
    "<s> and </s> and <|endoftext|> and <0x0A> are text",
    (ROOT / "stackfile/kubernetes.py").read_text(),
]


@pytest.fixture(autouse=True, scope="module")
def runtime() -> None:
    needs.package("xllamacpp")


@pytest.fixture(scope="module", params=["byte_level", "qwen", "sentence_piece"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    gguf_files.write(folder, getattr(gguf_files, request.param))
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    with running_llama(model, context=256) as (address, _):
        ready(address)
        yield address


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_ids_are_llama_cpps_own(model: Path, server: str, text: str):
    theirs = ask(server, "/tokenize", {"content": text, "add_special": True, "parse_special": False})
    assert Tokenizer.load(model).encode(text) == theirs["tokens"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_was_encoded_decodes_to_itself(model: Path, text: str):
    tokenizer = Tokenizer.load(model)
    # SentencePiece begins every text with a space.
    start = " " if text and "sentence_piece" in model.name else ""
    assert tokenizer.decode(tokenizer.encode(text)) == start + text


def test_context_and_end_are_the_files(model: Path):
    tokenizer = Tokenizer.load(model)
    assert tokenizer.context_length == 2048
    assert tokenizer.vocab_size == 2048
    assert tokenizer.eos_id == (2 if "sentence_piece" in model.name else 0)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_models_own_vocabulary_comes_back_from_a_file_as_it_went_in(tmp_path: Path, text: str):
    gguf_files.write(tmp_path, gguf_files.byte_level)
    assert Tokenizer.load(tmp_path).encode(text) == Tokenizer.load(TINY).encode(text)


def test_an_unknown_kind_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"tokenizer\.json beside it"):
        gguf.tokenizer({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "tekken"})


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x01\x00\x00\x00")
    with pytest.raises(ValueError, match="not a GGUF file"):
        Tokenizer.load(tmp_path)
