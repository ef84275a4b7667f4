"""The files of a model's folder that the gateway reads: small documents beside its weights, or inside a GGUF.

``python -m gateway.text.model_files FOLDER`` prints them as one JSON object by name, for a gateway on another
host than the model.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.text import gguf

TOKENIZER, CONFIG = "tokenizer.json", "config.json"
_TOKENIZER_CONFIG, _TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


@dataclass(frozen=True)
class ModelFiles:
    """The tokenizer's JSON, the model's own limits in tokens, and its chat template.

    ``chat_tokens`` are the texts of control tokens that the template may use: ``bos_token``, ``eos_token``.
    """

    tokenizer_json: str
    vocab_size: int | None = None
    context_length: int | None = None
    eos_id: int | None = None
    chat_template: str | None = None
    chat_tokens: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "ModelFiles":
        """Read a folder with ``tokenizer.json``, or with a GGUF file that carries a tokenizer.

        Raises ``OSError`` for a missing file and ``ValueError`` for an unsupported tokenizer.
        """
        texts = documents(folder)
        config = json.loads(texts.get(CONFIG, "{}"))
        eos = config.get("eos_token_id")
        tokenizer_config = json.loads(texts.get(_TOKENIZER_CONFIG, "{}"))
        tokens = {name: tokenizer_config.get(name) for name in ("bos_token", "eos_token")}
        chat_tokens = {
            name: token["content"] if isinstance(token, dict) else token for name, token in tokens.items()
        }
        return cls(
            texts[TOKENIZER],
            config.get("vocab_size"),
            config.get("n_positions") or config.get("max_position_embeddings") or config.get("n_ctx"),
            eos[0] if isinstance(eos, list) else eos,
            texts.get(_TEMPLATE) or _default(tokenizer_config.get("chat_template")),
            {name: text for name, text in chat_tokens.items() if text},
        )


def documents(folder: Path) -> dict[str, str]:
    """Return the documents by file name; a GGUF file's tokenizer has the names that a folder's files have.

    Raises ``OSError`` for a missing file and ``ValueError`` for an unsupported tokenizer.
    """
    if not (folder / TOKENIZER).is_file() and len(files := list(folder.glob("*.gguf"))) == 1:
        return _from_gguf(gguf.metadata(files[0]))
    others = [name for name in (CONFIG, _TOKENIZER_CONFIG, _TEMPLATE) if (folder / name).is_file()]
    return {name: (folder / name).read_text("utf-8") for name in (TOKENIZER, *others)}


def _from_gguf(facts: dict[str, Any]) -> dict[str, str]:
    tokens = facts["tokenizer.ggml.tokens"]
    config = {
        "vocab_size": len(tokens),
        "n_positions": facts.get(f"{facts.get('general.architecture')}.context_length"),
        "eos_token_id": facts.get("tokenizer.ggml.eos_token_id"),
    }
    tokenizer_config: dict[str, Any] = {"chat_template": facts.get("tokenizer.chat_template")}
    for name in ("bos", "eos"):
        if (token := facts.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            tokenizer_config[f"{name}_token"] = tokens[token]
    files = {TOKENIZER: gguf.tokenizer(facts), CONFIG: config, _TOKENIZER_CONFIG: tokenizer_config}
    return {name: json.dumps(document, ensure_ascii=False) for name, document in files.items()}


def _default(template: str | list[dict[str, str]] | None) -> str | None:
    """Return the template, or the one named ``default`` where a model has several."""
    if isinstance(template, list):
        return next((each["template"] for each in template if each["name"] == "default"), None)
    return template


def main(folder: str) -> int:
    """Print the documents; return 1, with the reason on standard error, for an unsupported tokenizer."""
    try:
        texts = documents(Path(folder))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{folder} has no vocabulary that the gateway supports: {error}\n")
        return 1
    json.dump(texts, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
