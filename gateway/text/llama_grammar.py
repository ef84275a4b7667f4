"""Checks a grammar with llguidance, as it is built into the llama.cpp that serves GGUF models.

llama.cpp writes a fault of such a grammar to its log and then generates without one. So each grammar is
compiled here first, against a vocabulary of single bytes: what it accepts does not depend on the tokens.

``python -m gateway.text.llama_grammar`` checks the grammar on its standard input, and writes the fault to its
standard output. It limits itself, because nothing else bounds a compilation: each further pattern of an
``allOf`` doubles its time.
"""

import ctypes
import re
import resource
import sys
from contextlib import suppress
from functools import cache

from gateway.text.llama_library import library_path

_MESSAGE_BYTES = 2000
# More than llguidance's structure of limits takes, which it fills in itself.
_LIMITS_BYTES = 1024
# Processor time and private memory of one check; 64 KiB of ordinary schemas take a tenth of either.
_CPU_S, _DATA_BYTES = 2, 64 * 2**20
_BYTES, _END = [bytes([value]) for value in range(255)], b"\xff<end>"


class _TokenizerInit(ctypes.Structure):
    """llguidance.h's ``LlgTokenizerInit``, in the version that requirements/ pins."""

    _fields_ = (
        ("vocab_size", ctypes.c_uint32),
        ("tok_eos", ctypes.c_uint32),
        ("token_lens", ctypes.c_void_p),
        ("token_bytes", ctypes.c_char_p),
        ("tokenizer_json", ctypes.c_char_p),
        ("tokenize_assumes_string", ctypes.c_bool),
        ("tokenize_fn", ctypes.c_void_p),
        ("use_approximate_greedy_tokenize_fn", ctypes.c_bool),
        ("tokenize_user_data", ctypes.c_void_p),
        ("slices", ctypes.c_void_p),
    )


class _Checker:
    """llguidance's functions, which give up Python's lock, and the vocabulary of bytes."""

    def __init__(self) -> None:
        library = ctypes.CDLL(str(library_path()))
        pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
        library.llg_new_tokenizer.restype = pointer
        library.llg_new_tokenizer.argtypes = (pointer, text, size)
        library.llg_constraint_init_set_defaults.argtypes = (pointer, pointer)
        self._validate = library.llg_validate_grammar
        self._validate.argtypes = (pointer, text, text, text, size)
        self._validate.restype = ctypes.c_int32
        tokens = [*_BYTES, _END]
        lengths = (ctypes.c_uint32 * len(tokens))(*map(len, tokens))
        vocabulary = _TokenizerInit(
            vocab_size=len(tokens),
            tok_eos=len(tokens) - 1,
            token_lens=ctypes.addressof(lengths),
            token_bytes=b"".join(tokens),
            use_approximate_greedy_tokenize_fn=True,
        )
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        tokenizer = library.llg_new_tokenizer(ctypes.byref(vocabulary), message, _MESSAGE_BYTES)
        if tokenizer is None:
            raise ValueError(f"llguidance does not start: {message.value.decode('utf-8', 'replace')}")
        self._limits = ctypes.create_string_buffer(_LIMITS_BYTES)
        library.llg_constraint_init_set_defaults(self._limits, tokenizer)

    def fault(self, grammar: str) -> str | None:
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        code = self._validate(self._limits, b"lark", grammar.encode(), message, _MESSAGE_BYTES)
        return message.value.decode("utf-8", "replace") if code < 0 else None


@cache
def _checker() -> _Checker:
    return _Checker()


def fault(grammar: str) -> str | None:
    """Return why llguidance refuses a grammar, in one line; ``None`` where it accepts it.

    Blocks, some grammars for ever. Raises ``ValueError`` with the remedy where llama.cpp is not installed.
    """
    reason = _checker().fault(grammar)
    if reason is None:
        return None
    first, _, rest = reason.partition("\n")
    # A fault in a pattern is drawn over several lines; the last of them says what it is.
    said = re.search(r"^error: (.+)$", rest, re.MULTILINE) if first.endswith(":") else None
    return f"{first} {said[1]}" if said else first


def main() -> int:
    """Check the grammar on standard input within the limits; a signal ends what exceeds them."""
    grammar = sys.stdin.buffer.read().decode()
    _checker()
    for kind, most in (
        (resource.RLIMIT_CPU, _CPU_S), (resource.RLIMIT_DATA, _DATA_BYTES), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # Older systemd's filter `@resources` forbids it: the caller's patience remains as a limit.
        with suppress(PermissionError):
            resource.setrlimit(kind, (least, least))
    sys.stdout.write(fault(grammar) or "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
