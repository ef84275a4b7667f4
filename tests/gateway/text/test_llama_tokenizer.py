"""A GGUF file's own tokenizer: the gateway must send the ids that llama.cpp makes of the text."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.engine.base import TokenChunk
from gateway.text.fim import PREFIX, SUFFIX
from gateway.text.llama_tokenizer import LlamaTokenizer
from gateway.text.loading import load_tokenizer
from gateway.text.output_sequence import OutputSequence
from gateway.text.prompt import Prompt, PromptBuilder
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
    "nul \x00 and \ufeff and e\u0301",
    (ROOT / "stackfile/kubernetes.py").read_text(),
]
KINDS = ["byte_level", "qwen", "sentence_piece", "unigram", "word_piece"]
# One that llama.cpp has an expression of its own for, and one that it gives to C++'s std::regex.
CUTS = ["smollm", "deepseek-coder"]
FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"]


@pytest.fixture(autouse=True, scope="module")
def runtime() -> None:
    needs.package("xllamacpp")


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    gguf_files.write(folder, getattr(gguf_files, request.param))
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    with running_llama(model, context=256) as (address, _):
        ready(address)
        yield address


@pytest.mark.parametrize("control", [False, True])
def test_the_ids_are_llama_cpps_own(model: Path, server: str, control: bool):
    tokenizer = load_tokenizer(model)
    for text in TEXTS:
        request = {"content": text, "add_special": not control, "parse_special": control}
        made = tokenizer.encode_control(text) if control else tokenizer.encode(text)
        assert made == ask(server, "/tokenize", request)["tokens"], text


def test_the_bytes_are_those_that_llama_cpp_streams(model: Path, server: str):
    tokenizer = load_tokenizer(model)
    for text in TEXTS[1:]:
        # Its route writes control and unknown tokens out, which its completions leave out.
        ids = [token for token in tokenizer.fragment(text) if tokenizer.bytes_of(token)]
        assert tokenizer.decode(ids) == ask(server, "/detokenize", {"tokens": ids})["content"], text


@pytest.mark.parametrize("cut", CUTS)
def test_text_comes_back_however_a_stream_is_chunked(tmp_path: Path, cut: str):
    gguf_files.vocabulary_only(tmp_path / "model.gguf", cut)
    tokenizer = load_tokenizer(tmp_path)
    for text in TEXTS:
        ids = tokenizer.fragment(text)
        assert tokenizer.decode(ids) == text
        sequence = OutputSequence(0, tokenizer, (), len(ids) + 1)
        pieces = [sequence.push(TokenChunk(0, ids=[token], logprobs=[0.0])).text for token in ids]
        assert "".join(pieces) == text
        assert "\ufffd" not in "".join(pieces)


def test_context_and_end_are_the_files(model: Path):
    tokenizer = load_tokenizer(model)
    assert (tokenizer.context_length, tokenizer.vocab_size) == (2048, 2048)
    ends = [token for token in range(2048) if tokenizer.is_end(token)]
    assert tokenizer.eos_id in ends
    assert not tokenizer.is_end(2048)
    assert tokenizer.bytes_of(tokenizer.eos_id) == tokenizer.bytes_of(2048) == tokenizer.bytes_of(-1) == b""


def test_the_models_own_vocabulary_comes_back_from_a_file_as_it_went_in(tmp_path: Path):
    gguf_files.write(tmp_path, gguf_files.byte_level)
    for text in TEXTS:
        assert load_tokenizer(tmp_path).encode(text) == load_tokenizer(TINY).encode(text)


def test_what_was_published_in_a_gguf_file_goes_before_a_tokenizer_beside_it(tmp_path: Path):
    gguf_files.vocabulary_only(tmp_path / "model.gguf", "qwen2")
    (tmp_path / "tokenizer.json").write_text("not even JSON")
    assert isinstance(load_tokenizer(tmp_path), LlamaTokenizer)


@pytest.mark.parametrize(
    "architecture", ["llama", "qwen2", "qwen3", "starcoder2", "granite", "deepseek2", "gemma", "phi3"]
)
async def test_fill_in_the_middle_tokens_are_found_in_any_architectures_vocabulary(
    tmp_path: Path, architecture: str
):
    gguf_files.vocabulary_only(tmp_path / "model.gguf", "qwen2", FIM, architecture)
    tokenizer = load_tokenizer(tmp_path)
    template = tokenizer.fim_template()
    assert template is not None
    assert template.pieces == (257, PREFIX, 258, SUFFIX, 259)
    assert (template.file_separator, tokenizer.context_length) == (260, 4096)
    assert {*FIM} <= {*template.stop}
    builder = PromptBuilder(tokenizer, template, 512, truncate=True)
    text = await builder.build(Prompt(text="a<|fim_suffix|>", suffix="b", files=[("f", "c")]), 4)
    ids = await builder.build(Prompt(ids=list(b"a"), suffix="b"), 4)
    assert text.ids == [260, *b"f\nc", 257, *b"a", 258, *b"b", 259]
    assert ids.ids == [257, *b"a", 258, *b"b", 259]


def test_a_vocabulary_without_such_tokens_has_no_template(tmp_path: Path):
    gguf_files.vocabulary_only(tmp_path / "model.gguf", "smollm")
    assert load_tokenizer(tmp_path).fim_template() is None


@pytest.mark.parametrize("cut", CUTS)
def test_no_text_ends_the_process(tmp_path: Path, cut: str):
    gguf_files.vocabulary_only(tmp_path / "model.gguf", cut)
    program = (
        "import sys, pathlib, threading; from gateway.text.loading import load_tokenizer\n"
        "tokenizer = load_tokenizer(pathlib.Path(sys.argv[1]))\n"
        "def work():\n"
        "    for text in ('a', 'a=', '=', ' ', '\\n', '1', '日', 'é', ' \\r\\n'):\n"
        "        assert tokenizer.decode(tokenizer.encode(text * 60_000)) == text * 60_000\n"
        "    print('all')\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr


async def test_long_text_is_encoded_in_a_thread_and_short_text_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gguf_files.vocabulary_only(tmp_path / "model.gguf", "qwen2")
    tokenizer, threads = load_tokenizer(tmp_path), []
    for name in ("encode", "fragment"):
        monkeypatch.setattr(tokenizer, name, lambda text: threads.append(threading.get_ident()) or [])
    await tokenizer.encode_async("a" * tokenizer.inline_chars)
    await tokenizer.encode_async("a" * (tokenizer.inline_chars + 1))
    await tokenizer.encode_fragment("a" * (tokenizer.inline_chars + 1))
    here = threading.get_ident()
    assert [thread == here for thread in threads] == [True, False, False]


def test_a_long_word_is_cut_only_past_the_length_that_no_source_file_has(tmp_path: Path):
    gguf_files.write(tmp_path, gguf_files.byte_level)
    tokenizer = load_tokenizer(tmp_path)
    long = "x = " + "return" * 680
    assert tokenizer.encode(long) == load_tokenizer(TINY).encode(long)


def test_an_unknown_kind_is_refused_with_llama_cpps_reason(tmp_path: Path):
    gguf_files.vocabulary_only(tmp_path / "model.gguf", "not-yet-invented")
    with pytest.raises(ValueError, match=r"cannot read .*model\.gguf.*not-yet-invented"):
        load_tokenizer(tmp_path)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x01\x00\x00\x00")
    with pytest.raises(ValueError, match=r"cannot read .*model\.gguf"):
        load_tokenizer(tmp_path)


def test_of_two_files_neither_is_chosen(tmp_path: Path):
    for name in ("a.gguf", "b.gguf"):
        gguf_files.vocabulary_only(tmp_path / name, "qwen2")
    with pytest.raises(ValueError, match="2 GGUF files"):
        load_tokenizer(tmp_path)
