"""Loads the tokenizer that a model's folder calls for."""

from pathlib import Path

from gateway.text.llama_tokenizer import LlamaTokenizer
from gateway.text.model_files import ModelFiles
from gateway.text.tokenizer import Tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a folder's tokenizer.

    Raises:
        OSError: a file is missing.
        ValueError: llama.cpp or the JSON parser cannot read a file; the message has the reason.
        TypeError: a ``tokenizer.json`` of a kind that is not supported.
    """
    files = ModelFiles.read(folder)
    if files.gguf is not None:
        return LlamaTokenizer(files.gguf, files.context_length, files.chat_template, files.chat_tokens)
    # Hugging Face's library takes memory, so only those who use it load it.
    from gateway.text.json_tokenizer import JsonTokenizer

    return JsonTokenizer(files)
