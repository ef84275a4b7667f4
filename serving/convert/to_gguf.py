"""Writes a GGUF file for llama.cpp, which reads CodeGen and GPT-J as Phi.

The three are one architecture once the attention weights are permuted (see ``layouts``). Phi has biases on
the attention projections; they are written as zeros.
"""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from serving.convert import vocabulary
from serving.convert.blocks import Source
from serving.convert.checkpoint import Checkpoint
from serving.convert.errors import ConversionError
from serving.convert.layouts import ParallelModel, parallel_model

FILE_NAME = "model.gguf"
_TYPES = {
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "F16": gguf.GGMLQuantizationType.F16,
    "F32": gguf.GGMLQuantizationType.F32,
}
_FILE_TYPES = {
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "F32": gguf.LlamaFileType.ALL_F32,
}
_ARCHITECTURES = ("CodeGenForCausalLM", "GPTJForCausalLM")


def convert(checkpoint: Checkpoint, target_dir: Path, precision: str) -> None:
    """Convert ``checkpoint`` into ``target_dir / model.gguf``; see ``serving.convert.convert``.

    Raises ``ConversionError``.
    """
    if checkpoint.architecture not in _ARCHITECTURES:
        raise ConversionError(
            f"no GGUF conversion for {checkpoint.architecture} (supported: {', '.join(_ARCHITECTURES)}): "
            "fetch a GGUF file of the model, or use the ctranslate2 runtime"
        )
    model = parallel_model(checkpoint)
    if model.activation != "gelu_new":
        raise ConversionError(
            f"llama.cpp's Phi supports gelu_new only, not {model.activation}: use the ctranslate2 runtime"
        )
    writer = gguf.GGUFWriter(target_dir / FILE_NAME, "phi2")
    _add_sizes(writer, model, precision)
    _add_tokenizer(writer, checkpoint)
    _write_tensors(writer, model, _TYPES[precision])


def _add_sizes(writer: gguf.GGUFWriter, model: ParallelModel, precision: str) -> None:
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.width)
    writer.add_feed_forward_length(model.inner)
    writer.add_block_count(model.layers)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.heads)
    writer.add_layer_norm_eps(model.epsilon)
    writer.add_rope_dimension_count(model.rotary)
    writer.add_file_type(_FILE_TYPES[precision])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: gguf.GGUFWriter, checkpoint: Checkpoint) -> None:
    """Add a vocabulary in which the name of every token is its id.

    No text is decoded with it: input and output are token ids. With the real names llama.cpp would hold back
    a streamed token whose bytes end within a character, and lose its id.
    """
    end = vocabulary.eos_id(checkpoint)
    size = checkpoint.number("vocab_size")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{index}>" for index in range(size)])
    kinds = [gguf.TokenType.CONTROL if index == end else gguf.TokenType.NORMAL for index in range(size)]
    writer.add_token_types(kinds)
    writer.add_token_merges(["< 0"])  # the reader requires a list that is not empty
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(value=False)


def _write_tensors(writer: gguf.GGUFWriter, model: ParallelModel, kind: gguf.GGMLQuantizationType) -> None:
    """Write the header and then every tensor by blocks of rows, so that only one block is in memory."""
    for name, source in _tensors(model):
        stored = _stored_type(source, kind)
        block, size = gguf.GGML_QUANT_SIZES[stored]
        count = int(np.prod(source.shape))
        if source.shape[-1] % block:
            raise ConversionError(
                f"{name} has rows of {source.shape[-1]} values, not a multiple of {block}: use F16"
            )
        writer.add_tensor_info(
            name, source.shape, np.dtype(np.float32), count // block * size, raw_dtype=stored
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    try:
        (file,) = writer.fout or []
        for _, source in _tensors(model):
            writer.write_padding(file, file.tell())
            for block in source.blocks():
                gguf.quantize(block, _stored_type(source, kind)).tofile(file)
        writer.write_padding(file, file.tell())
    finally:
        writer.close()


def _stored_type(source: Source, kind: gguf.GGMLQuantizationType) -> gguf.GGMLQuantizationType:
    """Return the stored type: float32 for biases and norms, which are a thousandth of the weights."""
    return kind if len(source.shape) == 2 else gguf.GGMLQuantizationType.F32


def _tensors(model: ParallelModel) -> Iterator[tuple[str, Source]]:
    """Yield every tensor with the name that llama.cpp's Phi has for it."""
    yield "token_embd.weight", model.source("transformer.wte.weight")
    for index in range(model.layers):
        yield from _block(model, index, f"blk.{index}.")
    for part in ("weight", "bias"):
        yield f"output_norm.{part}", model.source(f"transformer.ln_f.{part}")
        yield f"output.{part}", model.source(f"lm_head.{part}")


def _block(model: ParallelModel, index: int, prefix: str) -> Iterator[tuple[str, Source]]:
    yield prefix + "attn_qkv.weight", model.attention(index)
    yield prefix + "attn_qkv.bias", _zeros(3 * model.width)
    yield prefix + "attn_output.weight", model.block(index, "attn.out_proj.weight")
    yield prefix + "attn_output.bias", _zeros(model.width)
    for part in ("weight", "bias"):
        yield f"{prefix}attn_norm.{part}", model.block(index, f"ln_1.{part}")
        yield f"{prefix}ffn_up.{part}", model.block(index, f"mlp.fc_in.{part}")
        yield f"{prefix}ffn_down.{part}", model.block(index, f"mlp.fc_out.{part}")


def _zeros(size: int) -> Source:
    return Source((size,), lambda start, end: np.zeros(end - start, np.float32))
