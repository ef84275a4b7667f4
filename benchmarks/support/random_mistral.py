"""A GGUF file of Mistral 7B's true shape and of its quantisations, with random weights of a usable size."""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from stackfile.catalogue import ModelFacts

FILE_NAME = "model.gguf"
_INNER = 14336
_BYTES = 256
_TILE_BLOCKS = 1024
# Of one weight: small enough for 32 layers of sums to stay far from float16's limits.
_SCALE = np.float16(0.001)
_Kind = gguf.GGMLQuantizationType
# Where the float16 scales of a block stand, in bytes: the scale, then the least value where the type has one.
_SCALES = {_Kind.Q2_K: (80, 82), _Kind.Q3_K: (108,), _Kind.Q4_K: (0, 2), _Kind.Q6_K: (208,)}


def make(folder: Path, facts: ModelFacts) -> Path:
    """Write the file to ``folder``, unless it exists; return the folder. It needs little memory.

    ``facts``: a Mistral of the catalogue as Q2_K or Q4_K_M.
    """
    target = folder / FILE_NAME
    if target.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    _describe(writer, facts)
    tensors = list(_tensors(facts, next(iter(facts.memory_gib))))
    for name, shape, kind in tensors:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(
            name, shape, np.dtype(np.float32), int(np.prod(shape)) // block * size, raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    (file,) = writer.fout or []
    random = np.random.default_rng(0)
    tiles = {kind: _tile(kind, random) for kind in _SCALES}
    for _, shape, kind in tensors:
        writer.write_padding(file, file.tell())
        if kind is _Kind.F32:
            np.ones(shape, np.float32).tofile(file)
            continue
        left = int(np.prod(shape)) // gguf.GGML_QUANT_SIZES[kind][0]
        while left > 0:
            tiles[kind][:left].tofile(file)
            left -= _TILE_BLOCKS
    writer.write_padding(file, file.tell())
    writer.close()
    part.rename(target)
    return folder


def _describe(writer: gguf.GGUFWriter, facts: ModelFacts) -> None:
    writer.add_context_length(facts.context_length)
    writer.add_embedding_length(facts.width)
    writer.add_feed_forward_length(_INNER)
    writer.add_block_count(facts.layers)
    writer.add_head_count(facts.heads)
    writer.add_head_count_kv(facts.kv_width * facts.heads // facts.width)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(facts.width // facts.heads)
    writer.add_rope_freq_base(1e6)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(_BYTES))]
    types = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * _BYTES]
    words = facts.vocabulary - len(special)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *(f"▁w{index}" for index in range(words))])
    writer.add_token_scores([-float(index) for index in range(facts.vocabulary)])
    writer.add_token_types([*types, *[gguf.TokenType.NORMAL] * words])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _tensors(facts: ModelFacts, quantisation: str) -> Iterator[tuple[str, tuple[int, ...], _Kind]]:
    """Yield each tensor's name, shape and type; the sum is the size of the publisher's file."""
    small = quantisation == "Q2_K"
    base, third = (_Kind.Q2_K, _Kind.Q3_K) if small else (_Kind.Q4_K, None)
    width, layers = facts.width, facts.layers
    yield "token_embd.weight", (facts.vocabulary, width), base
    for layer in range(layers):
        at = f"blk.{layer}."
        more = _Kind.Q6_K if _gets_more(layer, layers) else _Kind.Q4_K
        yield f"{at}attn_norm.weight", (width,), _Kind.F32
        yield f"{at}attn_q.weight", (width, width), base
        yield f"{at}attn_k.weight", (facts.kv_width, width), base
        yield f"{at}attn_v.weight", (facts.kv_width, width), third or more
        yield f"{at}attn_output.weight", (width, width), third or base
        yield f"{at}ffn_norm.weight", (width,), _Kind.F32
        yield f"{at}ffn_gate.weight", (_INNER, width), third or base
        yield f"{at}ffn_up.weight", (_INNER, width), third or base
        yield f"{at}ffn_down.weight", (width, _INNER), third or more
    yield "output_norm.weight", (width,), _Kind.F32
    yield "output.weight", (facts.vocabulary, width), _Kind.Q6_K


def _gets_more(layer: int, layers: int) -> bool:
    """Return whether Q4_K_M has this layer's values and last matrix as Q6_K."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2


def _tile(kind: _Kind, random: np.random.Generator) -> np.ndarray:
    """Return random blocks of a type, [_TILE_BLOCKS, bytes], whose weights are about 0 on average."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    tile = random.integers(0, 256, (_TILE_BLOCKS, size), np.uint8)
    # The least value is taken from each weight: the middle of the values that the scale multiplies.
    middle = np.float16(_SCALE * (1.5 if kind is _Kind.Q2_K else 7.5))
    for at, value in zip(_SCALES[kind], (_SCALE, middle), strict=False):
        tile[:, at : at + 2] = np.frombuffer(value.tobytes(), np.uint8)
    return tile
