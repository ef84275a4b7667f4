"""llama.cpp's tokenizer in this process: the vocabulary of a GGUF file, without its weights.

The library is the one that serves GGUF models (``xllamacpp``, one version in requirements/), so that both
make the same ids of a text. Its Python module has no tokenizer, but its shared library exports llama.cpp's C
functions; only these are loaded, and only for a model that is a GGUF file.

llama.cpp ends the process where it is called with an id that does not exist, and where the regular
expressions of some tokenizers meet a very long word. Both are prevented here.
"""

import ctypes
import importlib.util
import logging
import re
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_NO_VOCABULARY, _BPE = 0, 2  # llama_vocab_type
_WARNING = 3  # ggml_log_level
# llama_token_attr: what is found in a text only when control tokens are to be read in it.
_CONTROL_ATTRIBUTES = (1 << 0) | (1 << 3)
_KEPT_LINES = 64  # of its log
_NONE = -1  # LLAMA_TOKEN_NULL
# C++'s std::regex needs about 350 bytes of stack for a character of a match, and a thread has 8 MiB or less.
_LONGEST_RUN = 4096
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{_LONGEST_RUN},}}|(?<!\s)\s{{{_LONGEST_RUN},}}")


class _ModelParams(ctypes.Structure):
    """llama.h's ``llama_model_params``, in the version that requirements/ pins."""

    _fields_ = (
        ("devices", ctypes.c_void_p),
        ("tensor_buft_overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int),
        ("load_mode", ctypes.c_int),
        ("lazy_mode", ctypes.c_int),
        ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p),
        ("progress_callback", ctypes.c_void_p),
        ("progress_callback_user_data", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool),
        ("check_tensors", ctypes.c_bool),
        ("use_extra_bufts", ctypes.c_bool),
        ("no_host", ctypes.c_bool),
        ("no_alloc", ctypes.c_bool),
        ("load_mtp", ctypes.c_bool),
    )


_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class _Library:
    """llama.cpp's functions: ``slow`` without Python's lock, ``fast`` where giving it up would cost more."""

    def __init__(self, path: Path) -> None:
        self.slow, self.fast = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        self.loading = threading.Lock()
        self._errors: list[str] = []
        self._callback = _LogCallback(self._logged)  # llama.cpp keeps the pointer
        self.slow.llama_log_set(self._callback, None)
        self._declare()

    def _declare(self) -> None:
        pointer, integer, text, flag = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_bool
        integers = ctypes.POINTER(ctypes.c_int32)
        types: dict[str, tuple[Any, tuple[Any, ...]]] = {
            "model_default_params": (_ModelParams, ()),
            "model_load_from_file": (pointer, (text, _ModelParams)),
            "model_free": (None, (pointer,)),
            "model_get_vocab": (pointer, (pointer,)),
            "model_meta_val_str": (integer, (pointer, text, text, ctypes.c_size_t)),
            "tokenize": (integer, (pointer, text, integer, integers, integer, flag, flag)),
            "token_to_piece": (integer, (pointer, integer, text, integer, integer, flag)),
            "vocab_get_text": (text, (pointer, integer)),
            "vocab_get_attr": (ctypes.c_int, (pointer, integer)),
            "vocab_is_eog": (flag, (pointer, integer)),
            "vocab_get_add_bos": (flag, (pointer,)),
        }
        fim = [f"fim_{name}" for name in ("pre", "suf", "mid", "pad", "rep", "sep")]
        for name in ("type", "n_tokens", "bos", "eos", "eot", *fim):
            types[f"vocab_{name}"] = (integer, (pointer,))
        for functions in (self.slow, self.fast):
            for name, (result, arguments) in types.items():
                function = getattr(functions, f"llama_{name}")
                function.restype, function.argtypes = result, arguments

    def _logged(self, level: int, text: bytes, _: int | None) -> None:
        """Keep llama.cpp's warnings and errors, for the message of a load that fails."""
        if level >= _WARNING and len(self._errors) < _KEPT_LINES:
            self._errors.append(text.decode("utf-8", "replace").strip())

    def load(self, file: Path) -> int:
        """Return a handle of the model in the file. Raises ``ValueError`` with llama.cpp's own reason."""
        params = self.slow.llama_model_default_params()
        params.vocab_only = True
        with self.loading:
            self._errors.clear()
            handle: int | None = self.slow.llama_model_load_from_file(bytes(file), params)
            reasons = [line for line in self._errors if line.strip(".")]
        if handle is None:
            raise ValueError(f"llama.cpp cannot read {file}: {'; '.join(reasons) or 'it gives no reason'}")
        for line in reasons:
            _log.debug("llama.cpp: %s", line)
        _return_free_memory()
        return handle


def _return_free_memory() -> None:
    """Give the memory that loading has freed back to the system: 16 MiB for 150 000 tokens, with glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _library() -> _Library:
    return _Library(library_path())


def library_path() -> Path:
    """Return the file of llama.cpp's library; raises ``ValueError`` with the remedy where it is missing."""
    package = importlib.util.find_spec("xllamacpp")
    folders = (package and package.submodule_search_locations) or ()
    for folder in folders:
        for path in sorted(Path(folder).glob("xllamacpp*.so")):
            return path
    raise ValueError("llama.cpp is not installed here: install requirements/gateway.txt")


def has_numbered_tokens(file: Path) -> bool:
    """Return whether each token's name is its id, as ``serving.convert`` writes: no text is meant by it.

    Raises ``ValueError`` as ``Vocabulary``.
    """
    vocabulary = Vocabulary(file)
    try:
        return all(vocabulary.text(token) == f"<{token}>" for token in range(min(3, vocabulary.size)))
    finally:
        vocabulary.close()


class Vocabulary:
    """The vocabulary of one GGUF file, as llama.cpp reads it. All methods may be called from any thread.

    Raises ``ValueError`` with llama.cpp's reason for a file that it cannot read or that has no vocabulary.
    """

    def __init__(self, file: Path) -> None:
        self._library = _library()
        self._slow, self._fast = self._library.slow, self._library.fast
        self._model = self._library.load(file)
        self._vocab = self._slow.llama_model_get_vocab(self._model)
        kind = self._slow.llama_vocab_type(self._vocab)
        self._split_runs = kind == _BPE
        self._local = threading.local()
        self.size: int = self._slow.llama_vocab_n_tokens(self._vocab)
        self.starts_with_bos: bool = self._slow.llama_vocab_get_add_bos(self._vocab)
        if kind == _NO_VOCABULARY or not self.size:
            self.close()
            raise ValueError(f"{file} has no vocabulary: choose another GGUF file of the model")

    def close(self) -> None:
        """Free the vocabulary, which may not be used any more."""
        self._slow.llama_model_free(self._model)

    def special(self, name: str) -> int | None:
        """Return the id of a special token such as ``bos``, ``eos`` or ``fim_pre``; ``None`` for none."""
        token: int = getattr(self._fast, f"llama_vocab_{name}")(self._vocab)
        return None if token == _NONE else token

    def metadata(self, key: str) -> str | None:
        """Return a value of the file's metadata as text; ``None`` where there is none, or it is an array."""
        length = self._slow.llama_model_meta_val_str(self._model, key.encode(), None, 0)
        if length < 0:
            return None
        buffer = ctypes.create_string_buffer(length + 1)
        self._slow.llama_model_meta_val_str(self._model, key.encode(), buffer, length + 1)
        return buffer.raw[:length].decode("utf-8", "replace")

    def tokenize(self, text: str, *, start: bool, control: bool) -> list[int]:
        """Return a text's ids.

        Args:
            text: any text without lone surrogates.
            start: whether the tokens that the model wants around a text are added.
            control: whether control tokens are recognised; otherwise ``<|endoftext|>`` is text.
        """
        first, *others = self._parts(text)
        ids = self._ids(first, start=start, control=control)
        for part in others:
            ids += self._ids(part, start=False, control=control)
        return ids

    def _parts(self, text: str) -> Iterator[str]:
        """Yield the text in one part, or cut within runs that are too long for llama.cpp's expressions."""
        begin = 0
        if self._split_runs and len(text) > _LONGEST_RUN:
            for run in _LONG_RUN.finditer(text):
                for end in range(run.start() + _LONGEST_RUN, run.end(), _LONGEST_RUN):
                    yield text[begin:end]
                    begin = end
        yield text[begin:]

    def _ids(self, text: str, *, start: bool, control: bool) -> list[int]:
        data = text.encode()
        # No token is shorter than a byte; two more may stand around the text.
        size = len(data) + 2
        while True:
            ids = (ctypes.c_int32 * size)()
            count = self._slow.llama_tokenize(self._vocab, data, len(data), ids, size, start, control)
            if count >= 0:
                return ids[:count]
            size = -count

    def piece(self, token: int) -> bytes:
        """Return a token's bytes as llama.cpp streams them: none for control tokens and unknown ids."""
        if not 0 <= token < self.size:
            return b""
        buffer = self._buffer(64)
        count = self._fast.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)  # noqa: FBT003
        if count < 0:
            buffer = self._buffer(-count)
            count = self._fast.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, False)  # noqa: FBT003
        return buffer.raw[:count]

    def _buffer(self, size: int) -> "ctypes.Array[ctypes.c_char]":
        """Return this thread's buffer, of at least ``size`` bytes."""
        buffer: ctypes.Array[ctypes.c_char] | None = getattr(self._local, "buffer", None)
        if buffer is None or len(buffer) < size:
            buffer = self._local.buffer = ctypes.create_string_buffer(size)
        return buffer

    def text(self, token: int) -> str:
        """Return a token's name in the file. The id must exist."""
        name: bytes = self._fast.llama_vocab_get_text(self._vocab, token)
        return name.decode("utf-8", "replace")

    def is_end(self, token: int) -> bool:
        """Return whether llama.cpp ends a completion at this token."""
        return 0 <= token < self.size and bool(self._fast.llama_vocab_is_eog(self._vocab, token))

    def control_tokens(self) -> list[int]:
        """Return the ids of the tokens that are recognised in a text only with ``control``."""
        attribute = self._fast.llama_vocab_get_attr
        return [id_ for id_ in range(self.size) if attribute(self._vocab, id_) & _CONTROL_ATTRIBUTES]
