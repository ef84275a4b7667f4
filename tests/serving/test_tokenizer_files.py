"""The tokenizer of a model, for a gateway on another host."""

from pathlib import Path

import pytest

from gateway.text.llama_library import has_numbered_tokens
from gateway.text.loading import load_tokenizer
from serving import tokenizer_files
from serving.convert import convert
from testing import gguf_files, needs
from testing.servers.triton import TINY


@pytest.fixture(autouse=True, scope="module")
def runtime() -> None:
    needs.package("xllamacpp")


def test_the_vocabulary_alone_makes_the_same_ids(tmp_path: Path):
    file = gguf_files.write(tmp_path, gguf_files.sentence_piece)
    alone = tmp_path / "other" / "vocabulary.gguf"
    alone.parent.mkdir()
    alone.write_bytes(tokenizer_files.vocabulary(file))
    text = file.with_suffix(".txt").name + "\ndef add(a, b): é"
    assert load_tokenizer(alone.parent).encode(text) == load_tokenizer(tmp_path).encode(text)
    assert alone.stat().st_size < file.stat().st_size / 4


def test_it_is_the_same_for_two_files_of_one_tokenizer(tmp_path: Path):
    files = [
        gguf_files.vocabulary_only(tmp_path / f"{n}.gguf", "qwen2", marks)
        for n, marks in ((1, ["<a>"]), (2, ["<a>"]), (3, ["<b>"]))
    ]
    first, second, other = (tokenizer_files.vocabulary(file) for file in files)
    assert first == second != other


def test_a_file_that_we_converted_leaves_the_text_to_the_tokenizer_beside_it(tmp_path: Path):
    convert(TINY, tmp_path, "llama_cpp", "Q8_0")
    assert has_numbered_tokens(tmp_path / "model.gguf")
    assert load_tokenizer(tmp_path).encode("def f") == load_tokenizer(TINY).encode("def f")
    assert tokenizer_files.documents(tmp_path).keys() >= {"tokenizer.json", "config.json"}
    assert tokenizer_files.VOCABULARY not in tokenizer_files.documents(tmp_path)
    assert not has_numbered_tokens(gguf_files.vocabulary_only(tmp_path / "v.gguf", "qwen2"))


@pytest.mark.parametrize(
    "content", [b"", b"GGUF\x03\x00\x00\x00", b"GGUF\x01" + bytes(40), b"PK" * 30, b"GGUF\x03" + b"\xff" * 60]
)
def test_what_is_not_a_gguf_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a GGUF file|GGUF.s version|damaged|cut off|exceeds"):
        tokenizer_files.vocabulary(tmp_path / "model.gguf")
