"""GGUF files of the tiny model with a vocabulary of words, as published ones have: our converter writes numbers."""

import json
from collections.abc import Callable
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


def qwen(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    """Add the model's own vocabulary, to be used on text that is cut as Qwen 2 cuts it."""
    byte_level(writer, checkpoint, "qwen2")


def byte_level(writer: gguf.GGUFWriter, checkpoint: Checkpoint, cut: str = "gpt-2") -> None:
    """Add the model's own vocabulary, which is GPT-2's kind."""
    document = json.loads((checkpoint.directory / "tokenizer.json").read_text())
    special = {token["content"]: token["id"] for token in document["added_tokens"]}
    tokens = sorted(document["model"]["vocab"] | special, key=(document["model"]["vocab"] | special).get)
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
