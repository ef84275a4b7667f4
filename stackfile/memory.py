"""What a stack takes of memory: the one place where it is computed, from the facts of the catalogue.

Pods' limits, systemd's ``MemoryMax``, the defaults of slots and context, every check and the tables of the
documentation read these figures. All are in MiB. docs/memory.md compares them with measurements.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from stackfile.catalogue import ModelFacts
from stackfile.validation import Strict

MIB = 2**20
# Eight requests of a kind, streamed or whole, and one that either kind leaves to the other.
DEFAULT_SLOTS = 9
DEFAULT_CONTEXT = 8192
# Shorter contexts hold no useful prompt, so none is suggested or chosen.
SHORTEST_CONTEXT = 512
_CONTEXT_STEP = 256

# Share of a device's memory that is given to a model; the driver and fragmentation take the rest.
USABLE_SHARE = 0.92
# A CUDA context with the libraries' kernels, in each process that computes.
_CUDA_CONTEXT = 500
# Triton with both backend processes (tiny-codegen, without requests: 200 MiB at most) and its buffers for
# requests, and llama.cpp's server alone. With a GPU the processes also map CUDA's libraries.
_TRITON = 320
_TRITON_CUDA = 1600
_LLAMA_SERVER = 150
# Estimated from those of Triton's: no test has a GPU (docs/memory.md).
_LLAMA_CUDA = 800
# An interpreter with the downloader's buffers, and one with numpy and a runtime's file format.
_DOWNLOAD = 192
_CONVERTER = 320
# torch, which lists the tensors of pickled weights before their conversion begins, beside the waiting loader.
_UNPICKLER = 704
_GATEWAY = 160
# A gateway's tokenizer, for each token of the vocabulary: llama.cpp's, and the one of a tokenizer.json.
_LLAMA_TOKENIZER_BYTES = 500
_JSON_TOKENIZER_BYTES = 1100
# The limit of the process that checks grammars, which only GGUF models take (gateway/text/llama_grammar.py).
_GRAMMAR_CHECK = 64
# A request in flight.
_REQUEST = 0.5
# Cached keys and values: llama.cpp stores float16, onnxruntime float32, CTranslate2 what it computes in.
_HALF = frozenset({"float16", "bfloat16", "int8_float16", "int8_bfloat16"})
# CTranslate2 appends to a layer's cache by copying it, and rounds allocations up.
_CTRANSLATE2_CACHE = 1.25
# Tokens that the runtime reads at once: llama.cpp's n_ubatch, the steps of Triton's llama.cpp on a CPU
# (serving/backend/runtimes/llama_cpp.py), and onnx_runtime.py's chunk.
_LLAMA_TOKENS = 512
_LLAMA_CPU_STEP = 64
# Values of 4 bytes for each token of the vocabulary: its texts and merges in llama.cpp, llguidance's form of
# it, which the first grammar makes, and each slot's logits and candidates with their probabilities.
_VOCABULARY_VALUES = 128
_GRAMMAR_VALUES = 150
_SLOT_VALUES = 6
# Activations of a token in llama.cpp, in widths: 15 (Mistral) to 18 (Qwen2.5) were measured.
_LLAMA_ACTIVATIONS = 20
_ONNX_TOKENS = 128
# Activations of one token: queries, keys, values and outputs, and the inner layer, of four widths.
_ACTIVATIONS = 12
# A transformer block: attention of 4 widths x width, and the MLP of 8.
_BLOCK = 12
_CONVERSION_SHARE = 1.3


class Memory(Strict):
    """The memory of a stack's processes in MiB, each the limit that it gets; 0: no such process runs here.

    ``weights_mib``, ``cache_mib`` and ``workspace_mib`` are those of one engine process and are part of
    ``device_mib`` on a GPU, else of ``engine_mib``. ``device_mib``: of each GPU.
    """

    loader_mib: int
    gateway_mib: int
    engine_mib: int
    device_mib: int
    weights_mib: int
    cache_mib: int
    workspace_mib: int


@dataclass(frozen=True, slots=True)
class Use:
    """A model as it is served: ``slots`` requests of up to ``context`` tokens at once in each engine process.

    ``engine``: ``triton``, ``llama`` (llama.cpp's own server) or ``external``. ``instances``: engine
    processes on a device. ``devices``: the GPUs of a machine, 0 for a CPU, of which ``split`` share one copy.
    """

    model: ModelFacts
    runtime: str
    precision: str
    context: int
    slots: int
    engine: str = "triton"
    instances: int = 1
    devices: int = 0
    split: int = 1

    @property
    def weights(self) -> int:
        """The weights in MiB; 0 for a precision that the model does not have."""
        return math.ceil(self.model.memory_gib.get(self.precision, 0) * 1024)

    @property
    def cache(self) -> int:
        """Keys and values of every slot at full context in MiB."""
        values = 2 * self.model.layers * self.model.kv_width * self.context * self.slots
        match self.runtime:
            case "llama_cpp":
                size = 2.0
            case "ctranslate2":
                size = _CTRANSLATE2_CACHE * (2 if self.precision in _HALF else 4)
            case _:
                size = 4.0
        return math.ceil(values * size / MIB)

    @property
    def workspace(self) -> int:
        """What the runtime computes in, in MiB: activations, attention scores and logits."""
        model = self.model
        match self.runtime:
            case "llama_cpp":
                # The attention mask is a row of the context for each token that is read.
                values = self._llama_tokens * (_LLAMA_ACTIVATIONS * model.width + 2 * self.context)
                each = _VOCABULARY_VALUES + _GRAMMAR_VALUES + _SLOT_VALUES * self.slots
                values += each * model.vocabulary
            case "ctranslate2":
                # It reads a prompt at once: the scores of a layer are heads x context x context a row.
                row = self.context * (model.heads * self.context + _ACTIVATIONS * model.width)
                values = self.slots * (row + model.vocabulary)
                if self.precision in _HALF:
                    values //= 2
            case _:
                tokens = min(_ONNX_TOKENS, self.context)
                values = tokens * (2 * model.heads * self.context + _ACTIVATIONS * model.width)
                values += self.slots * self.slots * model.vocabulary
        return math.ceil(values * 4 / MIB)

    @property
    def _llama_tokens(self) -> int:
        step = _LLAMA_CPU_STEP if self.engine == "triton" and not self.devices else _LLAMA_TOKENS
        return min(max(step, 2 * self.slots), self.context)

    @property
    def process(self) -> int:
        """The model in one engine process in MiB, on the device that computes."""
        return self.weights + self.cache + self.workspace

    @property
    def device(self) -> int:
        """The memory of each GPU in MiB; 0 for a CPU."""
        if not self.devices:
            return 0
        process = self.process if self.split == 1 else self._layers_share()
        return self.instances * (process + _CUDA_CONTEXT)

    def _layers_share(self) -> int:
        """Return the model on the fullest of the GPUs that share its layers, in MiB.

        llama.cpp gives each the same number of layers with their cache, and the last one the output layer,
        which counts as one. It computes in a buffer on each. The layers' weights are taken to be equal.
        """
        model = self.model
        head = self.weights * min(1.0, model.vocabulary * model.width / model.parameters)
        layer = (self.weights - head) / model.layers
        most = math.ceil((model.layers + 1) / self.split)
        fullest = max(most * layer, (most - 1) * layer + head)
        return math.ceil(fullest + self.cache * most / model.layers) + self.workspace

    @property
    def host(self) -> int:
        """The memory of the engine on its machine in MiB, all processes together; 0 for an external one."""
        if self.engine == "external":
            return 0
        if self.engine == "llama":
            base = _LLAMA_CUDA if self.devices else _LLAMA_SERVER
        else:
            base = _TRITON_CUDA if self.devices else _TRITON
        if not self.devices:
            return base + self.instances * self.process
        # Each process reads the weights into the machine's memory before it copies them to its GPU.
        return base + self.weights * self.instances * max(1, self.devices // self.split)

    @property
    def loader(self) -> int:
        """The loader's peak in MiB: the download, or the conversion of the largest group of layers."""
        if self.model.format == "gguf":
            return _DOWNLOAD
        conversion = _CONVERTER + math.ceil(_CONVERSION_SHARE * layer_group(self.model.width) / MIB)
        return max(conversion, _UNPICKLER) if self.model.format == "pickle" else conversion

    def gateway(self, requests: int) -> int:
        """Return the memory of a gateway with ``requests`` in flight, in MiB."""
        is_gguf = self.model.format == "gguf"
        each = _LLAMA_TOKENIZER_BYTES if is_gguf else _JSON_TOKENIZER_BYTES
        mib = _GATEWAY + self.model.vocabulary * each / MIB + requests * _REQUEST
        return math.ceil(mib + (_GRAMMAR_CHECK if is_gguf else 0))


def layer_group(width: int) -> int:
    """Return the bytes of a transformer block in float32, the most of a model that is converted at once.

    Embeddings and heads are larger, but are converted row by row.
    """
    return _BLOCK * width * width * 4


def redis_limit(data_mib: int) -> int:
    """Return the limit of a Redis with so much data, in MiB: a snapshot's fork may copy all of it."""
    return 2 * data_mib + 64


def default_context(model: ModelFacts) -> int:
    """Return the context of a stack that sets none: the model's, or ``DEFAULT_CONTEXT``."""
    return min(model.context_length, DEFAULT_CONTEXT)


@dataclass(frozen=True, slots=True)
class Fitting:
    """Looks for settings with which ``need`` of a use is at most ``limit`` MiB.

    ``smaller``: what else could be served, as its name for the reader and its use, the largest first.
    """

    need: Callable[[Use], int]
    limit: int
    smaller: tuple[tuple[str, Use], ...] = ()

    def fits(self, use: Use) -> bool:
        """Return whether the use fits."""
        return self.need(use) <= self.limit

    def fewest_changes(self, use: Use) -> Use | None:
        """Return the use with as many slots, and then as long a context, as fit; None where none does."""
        fewer = self.fewer_slots(use)
        return fewer or self.shorter_context(replace(use, slots=1))

    def fewer_slots(self, use: Use) -> Use | None:
        """Return the use with the most slots that fit, or None."""
        counts = range(use.slots, 0, -1)
        return next((each for slots in counts if self.fits(each := replace(use, slots=slots))), None)

    def shorter_context(self, use: Use) -> Use | None:
        """Return the use with the longest context that fits, or None."""
        if self.fits(use):
            return use
        longest = (use.context - 1) // _CONTEXT_STEP * _CONTEXT_STEP
        lengths = range(longest, SHORTEST_CONTEXT - 1, -_CONTEXT_STEP)
        return next((each for tokens in lengths if self.fits(each := replace(use, context=tokens))), None)

    def remedies(self, use: Use) -> list[str]:
        """Return settings that fit: a shorter context, fewer slots, and a smaller quantisation.

        Each changes one setting if that is enough, else the others, too.
        """
        found = [self.shorter_context(use) or self.shorter_context(replace(use, slots=1))]
        shorter = (replace(use, context=use.context // part) for part in (1, 2, 4, 8, 16))
        found.append(
            next(
                (
                    fewer
                    for each in shorter
                    if each.context >= SHORTEST_CONTEXT and (fewer := self.fewer_slots(each))
                ),
                None,
            )
        )
        texts = [changes(use, each) for each in found if each]
        smaller = ((name, self.fewest_changes(each)) for name, each in self.smaller)
        texts += [", ".join(filter(None, (name, changes(use, each)))) for name, each in smaller if each][:1]
        return list(dict.fromkeys(texts))


def changes(before: Use, after: Use) -> str:
    """Return the settings of slots and context that differ, as a stack file has them."""
    settings = []
    if after.context != before.context:
        settings.append(f"context_length: {after.context}")
    if after.slots != before.slots:
        settings.append(f"serving.slots: {after.slots}")
    return " and ".join(settings)
