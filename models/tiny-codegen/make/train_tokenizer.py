"""Train the byte-level BPE tokenizer of tiny-codegen on Python's standard library and keep the token stream.

Needs ``tokenizers`` and ``numpy``. Takes seconds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"
# Tests and generated tables teach a tiny model nothing worth its parameters.
SKIPPED = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "turtledemo",
    "encodings",
}
SKIPPED |= {"pydoc_data"}


def sources(library: Path) -> Iterator[str]:
    """Yield the text of every Python file below ``library`` that is worth learning, in a fixed order."""
    for path in sorted(library.rglob("*.py")):
        if not set(path.relative_to(library).parts) & SKIPPED:
            yield path.read_text("utf-8", errors="ignore")


def train(texts: list[str], vocabulary_size: int) -> Tokenizer:
    """Train GPT-2's kind of tokenizer: any bytes in, the same bytes out, no unknown token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def token_stream(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Return all texts as one row of token ids, each closed by the end-of-text token."""
    end = tokenizer.token_to_id(END)
    return np.array([i for text in tokenizer.encode_batch(texts) for i in (*text.ids, end)], np.uint16)


def main() -> None:
    """Write ``tokenizer.json`` and ``tokens.npy``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, default=Path("/usr/lib/python3.11"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=2048)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    texts = list(sources(options.library))
    tokenizer = train(texts, options.vocabulary)
    tokenizer.save(str(options.out / "tokenizer.json"))
    np.save(options.out / "tokens.npy", token_stream(tokenizer, texts))


if __name__ == "__main__":
    main()
