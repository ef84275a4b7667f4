"""The files of a model's folder that the gateway reads: small documents beside its weights, or a GGUF file.

A GGUF file that was published with a vocabulary is read by llama.cpp, which serves it; a ``tokenizer.json``
beside it is then of no account. Files that ``serving.convert`` made have numbers for names, and the model's
own ``tokenizer.json`` beside them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.text.llama_library import has_numbered_tokens

TOKENIZER, CONFIG = "tokenizer.json", "config.json"
_TOKENIZER_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


@dataclass(frozen=True)
class ModelFiles:
    """A tokenizer, as ``tokenizer_json`` or in a ``gguf`` file, and what other documents say of the model.

    Sizes are in tokens. ``chat_tokens`` are the texts of control tokens that the template may use:
    ``bos_token``, ``eos_token``. With a GGUF file they are overrides of what the file says.
    """

    tokenizer_json: str = ""
    gguf: Path | None = None
    vocab_size: int | None = None
    context_length: int | None = None
    eos_id: int | None = None
    chat_template: str | None = None
    chat_tokens: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "ModelFiles":
        """Read a folder with ``tokenizer.json``, or with one GGUF file that carries a tokenizer.

        Raises ``OSError`` for a missing file and ``ValueError`` for one that cannot be read.
        """
        file = _gguf_file(folder)
        texts = _texts(folder, tokenizer=file is None)
        config = json.loads(texts.get(CONFIG, "{}"))
        eos = config.get("eos_token_id")
        tokenizer_config = json.loads(texts.get(_TOKENIZER_CONFIG, "{}"))
        tokens = {name: tokenizer_config.get(name) for name in ("bos_token", "eos_token")}
        chat_tokens = {
            name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items()
        }
        return cls(
            texts.get(TOKENIZER, ""),
            file,
            config.get("vocab_size"),
            config.get("n_positions") or config.get("max_position_embeddings") or config.get("n_ctx"),
            eos[0] if isinstance(eos, list) else eos,
            texts.get(_TEMPLATE) or _default(tokenizer_config.get("chat_template")),
            {name: text for name, text in chat_tokens.items() if text},
        )


def _gguf_file(folder: Path) -> Path | None:
    """Return the folder's one GGUF file where its vocabulary is the model's; raises ``ValueError``."""
    files = sorted(folder.glob("*.gguf"))
    has_json = (folder / TOKENIZER).is_file()
    if len(files) > 1 and not has_json:
        raise ValueError(f"{folder} has {len(files)} GGUF files: keep the one to serve")
    if len(files) != 1 or (has_json and has_numbered_tokens(files[0])):
        return None
    return files[0]


def _texts(folder: Path, *, tokenizer: bool) -> dict[str, str]:
    others = [name for name in (CONFIG, _TOKENIZER_CONFIG, _TEMPLATE) if (folder / name).is_file()]
    names = [TOKENIZER, *others] if tokenizer else others
    return {name: (folder / name).read_text("utf-8") for name in names}


def _default(template: str | list[dict[str, str]] | None) -> str | None:
    """Return the template, or the one named ``default`` where a model has several."""
    if isinstance(template, list):
        return next((each["template"] for each in template if each["name"] == "default"), None)
    return template
