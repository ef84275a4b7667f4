"""GGUF files of the tiny model with a vocabulary of words, as published ones have: our converter writes numbers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import pytest
from tokenizers import Tokenizer, models, normalizers, trainers

from serving.convert import to_gguf
from serving.convert.checkpoint import Checkpoint
from testing.servers.triton import TINY

Vocabulary = Callable[[gguf.GGUFWriter, Checkpoint], None]
_SIZE = 2048
_SPECIAL = ("<unk>", "<s>", "</s>")


def write(folder: Path, vocabulary: Vocabulary) -> Path:
    """Convert the tiny model with this vocabulary in place of the numbered one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_gguf, "_add_tokenizer", vocabulary)
        to_gguf.convert(Checkpoint(TINY), folder, "Q8_0")
    return folder / to_gguf.FILE_NAME


def chatting(template: str, control: Sequence[str] = ()) -> Vocabulary:
    """Return the model's own vocabulary with a chat template, as a published chat model has them in its file.

    ``control`` are its control tokens, in the place of the vocabulary's last ones.
    """

    def add(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
        byte_level(writer, checkpoint, control=control)
        writer.add_chat_template(template)

    return add


def qwen(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    """Add the model's own vocabulary, to be used on text that is cut as Qwen 2 cuts it."""
    byte_level(writer, checkpoint, "qwen2")


def byte_level(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, cut: str = "gpt-2", control: Sequence[str] = ()
) -> None:
    """Add the model's own vocabulary, which is GPT-2's kind."""
    document = json.loads((checkpoint.directory / "tokenizer.json").read_text())
    special = {token["content"]: token["id"] for token in document["added_tokens"]}
    tokens = sorted(document["model"]["vocab"] | special, key=(document["model"]["vocab"] | special).get)
    tokens[len(tokens) - len(control) :] = control
    special |= dict.fromkeys(control, 0)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(value=False)


def sentence_piece(writer: gguf.GGUFWriter, _: Checkpoint) -> None:
    """Add a vocabulary of Llama's and Mistral's kind, learnt from the tests' own texts."""
    pieces = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    pieces.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE, special_tokens=[*_SPECIAL, *fallback], show_progress=False, max_token_length=12
    )
    sources = sorted(Path(__file__).parent.glob("*.py"))
    pieces.train_from_iterator([line for file in sources for line in file.read_text().split("\n")], trainer)
    known = pieces.get_vocab()
    tokens = sorted(known, key=known.__getitem__)
    tokens += [f"<extra_{index}>" for index in range(_SIZE - len(tokens))]
    kinds = dict.fromkeys(fallback, gguf.TokenType.BYTE)
    kinds |= {"<unk>": gguf.TokenType.UNKNOWN, "<s>": gguf.TokenType.CONTROL, "</s>": gguf.TokenType.CONTROL}
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    # Llama's scores, too, fall with the id.
    writer.add_token_scores([-float(index) for index in range(_SIZE)])
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def unigram(writer: gguf.GGUFWriter, _: Checkpoint) -> None:
    """Add a vocabulary of T5's kind, in which the most probable way to cut a text wins."""
    words = [
        "▁",
        "▁def",
        "▁return",
        "▁a",
        "▁b",
        "▁the",
        "ing",
        "ad",
        "add",
        "add(",
        "turn",
        *map(chr, range(33, 127)),
    ]
    tokens = ["<pad>", "</s>", "<unk>", *words]
    kinds = [gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN]
    writer.add_tokenizer_model("t5")
    _add_tokens(writer, tokens, kinds)
    writer.add_token_scores(
        [0.0, 0.0, 0.0, *(-3.0 / len(word) - 1 for word in words), *[-99.0] * (_SIZE - len(tokens))]
    )
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(value=False)
    writer.add_add_eos_token(value=False)


def word_piece(writer: gguf.GGUFWriter, _: Checkpoint) -> None:
    """Add a vocabulary of BERT's kind: words, and their parts."""
    words = ["def", "return", "a", "b", "the", "text", "are", "and"]
    pieces = [f"▁{word}" for word in words] + [f"▁{chr(code)}" for code in range(33, 127)]
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *dict.fromkeys(pieces),
        "ing",
        "s",
        "ain",
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    tokens = list(dict.fromkeys(tokens))
    kinds = [gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    writer.add_tokenizer_model("bert")
    _add_tokens(writer, tokens, kinds)
    writer.add_unk_token_id(1)
    writer.add_sep_token_id(3)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_pad_token_id(0)


def _add_tokens(writer: gguf.GGUFWriter, tokens: list[str], kinds: list[gguf.TokenType]) -> None:
    """Add these tokens, the first of these kinds, and as many as the tiny model's head has."""
    tokens = [*tokens, *(f"<extra_{index}>" for index in range(_SIZE - len(tokens)))]
    writer.add_token_list(tokens)
    writer.add_token_types([*kinds, *[gguf.TokenType.NORMAL] * (_SIZE - len(kinds))])


def vocabulary_only(file: Path, cut: str, tokens: Sequence[str] = (), architecture: str = "llama") -> Path:
    """Write a file without weights: a token for each byte, and these control tokens from id 256 on."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    names = {byte: chr(byte) for byte in own} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(4096)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list([*(names[byte] for byte in range(256)), "<|end|>", *tokens])
    writer.add_token_types([*[gguf.TokenType.NORMAL] * 256, *[gguf.TokenType.CONTROL] * (1 + len(tokens))])
    writer.add_token_merges(["< 0"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return file
