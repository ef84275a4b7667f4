"""The graph of ``serving.convert.to_onnx`` with its KV cache: reads prompts, advances rows by one token."""

import json
import mmap
import os
from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .base import Options
from .onnx_sampling import Logits

_Cache = NDArray[np.float32]


class OnnxModel:
    """One session over one cache of ``slots`` rows; use it from one thread at a time.

    Rows ``0`` to ``n - 1`` advance together, so the caller keeps the running rows in the first slots.
    """

    def __init__(self, options: Options, slots: int) -> None:
        """Load the model. Raises ``ValueError`` if the requested context is longer than the model's."""
        config = json.loads((options.model_dir / "config.json").read_text("utf-8"))
        if options.context_length > config["n_positions"]:
            raise ValueError(
                f"context_length {options.context_length} exceeds the model's {config['n_positions']}: "
                "use a smaller value"
            )
        end = config["eos_token_id"]
        self.eos_id = int(end[0] if isinstance(end, list) else end)
        self.vocabulary_size = int(config["vocab_size"])
        self._session = _session(options)
        size = config["n_embd"] // config["n_head"]
        shape = (slots, config["n_head"], options.context_length, size)
        names = [node.name for node in self._session.get_inputs() if node.name.startswith("past.")]
        self._caches = {name: _cache(shape) for name in names}
        self._steps = [_Step(self, 0, count + 1, 1) for count in range(slots)]

    def read(self, slot: int, tokens: Sequence[int], start: int) -> Logits:
        """Read ``tokens`` of a row at position ``start`` into ``slot``; return the last token's logits."""
        step = _Step(self, slot, slot + 1, len(tokens))
        logits: Logits = step.run([tokens], [start + len(tokens) - 1])[0]
        return logits

    def advance(self, tokens: Sequence[int], lengths: Sequence[int]) -> Logits:
        """Add one token to each of the first rows, which now have ``lengths``; return ``[row, vocabulary]``.

        The next call with the same number of rows overwrites the array.
        """
        return self._steps[len(tokens) - 1].run([[token] for token in tokens], lengths)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row's first ``length`` positions to another slot."""
        for cache in self._caches.values():
            cache[target, :, :length] = cache[source, :, :length]

    def bind(self, first: int, end: int, arrays: dict[str, NDArray[np.generic]]) -> "_Run":
        """Bind the slots ``first`` to ``end``, the other inputs and ``logits``, once for many runs."""
        binding = self._session.io_binding()
        for name, array in arrays.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            if name == "logits":
                binding.bind_ortvalue_output(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        for name, cache in self._caches.items():
            # Past and present share one buffer, so new keys and values are written in place.
            value = onnxruntime.OrtValue.ortvalue_from_numpy(cache[first:end])
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past", "present"), value)
        return _Run(self._session, binding)


class _Run:
    """A session with bound inputs and outputs."""

    def __init__(self, session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> None:
        self._session = session
        self._binding = binding

    def __call__(self) -> None:
        self._session.run_with_iobinding(self._binding)


class _Step:
    """The inputs and outputs of a run, bound once and filled for each run."""

    def __init__(self, model: OnnxModel, first: int, end: int, length: int) -> None:
        rows = end - first
        self._ids = np.zeros((rows, length), np.int64)
        self._last = np.zeros(rows, np.int32)
        self._total = np.zeros((), np.int32)
        self._logits = np.zeros((rows, model.vocabulary_size), np.float32)
        self._run = model.bind(
            first,
            end,
            {"input_ids": self._ids, "last": self._last, "total": self._total, "logits": self._logits},
        )

    def run(self, tokens: Sequence[Sequence[int]], last: Sequence[int]) -> Logits:
        self._ids[:] = tokens
        self._last[:] = last
        self._total[...] = max(last) + 1
        self._run()
        return self._logits


def _session(options: Options) -> onnxruntime.InferenceSession:
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = options.threads or len(os.sched_getaffinity(0))
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3
    # The operators of a run are microseconds apart: threads that sleep in between cost a third of the speed
    # on an idle machine, and threads that spin for long take time from other processes on a busy one.
    session_options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    session_options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
    session_options.add_session_config_entry("session.force_spinning_stop", "1")
    path = options.model_dir / "model.onnx"
    return onnxruntime.InferenceSession(str(path), session_options, providers=["CPUExecutionProvider"])


def _cache(shape: tuple[int, ...]) -> _Cache:
    """Return zeros whose memory is allocated page by page, when it is written.

    numpy would request huge pages, and the first token of a row would then allocate the whole row.
    """
    size = int(np.prod(shape)) * 4
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.float32).reshape(shape)
