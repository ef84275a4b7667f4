"""GGUF files of any architecture with a few small tensors: their header is whole, their model computes nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np

NORMAL, CONTROL = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
WORDS = ("a", "b", "c")
LAYERS, WIDTH, HEADS, CONTEXT = 2, 64, 4, 1024


def write(
    file: Path,
    architecture: str = "llama",
    *,
    special: Sequence[str] = ("<|endoftext|>",),
    licence: str | None = "apache-2.0",
    more: Callable[[gguf.GGUFWriter], None] = lambda _: None,
) -> Path:
    """Write a file whose vocabulary is ``WORDS`` and ``special``, of which the first ends a text.

    ``more`` adds to the metadata, or overrides it.
    """
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_type("model")
    writer.add_name(file.stem)
    if licence is not None:
        writer.add_license(licence)
    writer.add_context_length(CONTEXT)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*WORDS, *special])
    writer.add_token_types([NORMAL] * len(WORDS) + [CONTROL] * len(special))
    writer.add_token_merges(["a b"] * 4)
    writer.add_eos_token_id(len(WORDS))
    more(writer)
    writer.add_tensor("token_embd.weight", np.zeros((len(WORDS) + len(special), WIDTH), np.float16))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
