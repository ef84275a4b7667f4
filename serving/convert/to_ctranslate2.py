"""Write a CTranslate2 model directory."""

import json
from pathlib import Path

from serving.convert import vocabulary
from serving.convert.checkpoint import Checkpoint
from serving.convert.ctranslate2_specs import parallel_spec, qwen2_spec
from serving.convert.errors import ConversionError

_BUILDERS = {
    "CodeGenForCausalLM": parallel_spec,
    "GPTJForCausalLM": parallel_spec,
    "Qwen2ForCausalLM": qwen2_spec,
}


def convert(source_dir: Path, target_dir: Path, precision: str) -> None:
    """Convert ``source_dir`` into ``target_dir`` at ``precision``; see ``serving.convert.convert``."""
    checkpoint = Checkpoint(source_dir)
    builder = _BUILDERS.get(checkpoint.architecture)
    if builder is None:
        raise ConversionError(
            f"no CTranslate2 conversion for {checkpoint.architecture}: supported are {', '.join(_BUILDERS)}; "
            "for another model serve a ready GGUF file with the llama_cpp runtime"
        )
    spec = builder(checkpoint)
    spec.register_vocabulary(vocabulary.tokens(checkpoint))
    spec.validate()
    spec.optimize(quantization=precision)
    spec.save(str(target_dir))
    _write_config(checkpoint, target_dir)


def _write_config(checkpoint: Checkpoint, target_dir: Path) -> None:
    """Write one ``config.json`` for both readers: CTranslate2 and those who want the model's own facts.

    Both insist on that name; their keys do not collide, and each ignores the other's.
    """
    end = vocabulary.tokens(checkpoint)[vocabulary.eos_id(checkpoint)]
    epsilon = checkpoint.config.get("layer_norm_epsilon", checkpoint.config.get("rms_norm_eps", 1e-5))
    own = {"bos_token": end, "eos_token": end, "unk_token": end, "layer_norm_epsilon": epsilon}
    document = json.dumps(checkpoint.config | own, indent=2, sort_keys=True, ensure_ascii=False)
    (target_dir / "config.json").write_text(document + "\n", "utf-8")
