"""What the gateway reads of a model's folder: documents of kilobytes beside, or at the head of, its weights.

``python -m gateway.text.model_files FOLDER`` prints them as one JSON object by their names, for a gateway on
another host than the model.
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
    """The tokenizer's JSON, the model's own limits, in tokens, and its chat template.

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
        """Read a folder with ``tokenizer.json``, or with a GGUF file that carries one.

        ``OSError`` names what is missing, ``ValueError`` what is not known.
        """
        found = documents(folder)
        config = json.loads(found.get(CONFIG, "{}"))
        eos = config.get("eos_token_id")
        told = json.loads(found.get(_TOKENIZER_CONFIG, "{}"))
        marks = {name: told.get(name) for name in ("bos_token", "eos_token")}
        texts = {name: mark["content"] if isinstance(mark, dict) else mark for name, mark in marks.items()}
        return cls(
            found[TOKENIZER],
            config.get("vocab_size"),
            config.get("n_positions") or config.get("max_position_embeddings") or config.get("n_ctx"),
            eos[0] if isinstance(eos, list) else eos,
            found.get(_TEMPLATE) or _default(told.get("chat_template")),
            {name: text for name, text in texts.items() if text},
        )


def documents(folder: Path) -> dict[str, str]:
    """Return the texts by their names; those that a GGUF file carries under the names of a folder's."""
    if not (folder / TOKENIZER).is_file() and len(files := list(folder.glob("*.gguf"))) == 1:
        return _carried(gguf.metadata(files[0]))
    others = [name for name in (CONFIG, _TOKENIZER_CONFIG, _TEMPLATE) if (folder / name).is_file()]
    return {name: (folder / name).read_text("utf-8") for name in (TOKENIZER, *others)}


def _carried(facts: dict[str, Any]) -> dict[str, str]:
    tokens = facts["tokenizer.ggml.tokens"]
    config = {
        "vocab_size": len(tokens),
        "n_positions": facts.get(f"{facts.get('general.architecture')}.context_length"),
        "eos_token_id": facts.get("tokenizer.ggml.eos_token_id"),
    }
    told: dict[str, Any] = {"chat_template": facts.get("tokenizer.chat_template")}
    for name in ("bos", "eos"):
        if (mark := facts.get(f"tokenizer.ggml.{name}_token_id")) is not None:
            told[f"{name}_token"] = tokens[mark]
    found = {TOKENIZER: gguf.tokenizer(facts), CONFIG: config, _TOKENIZER_CONFIG: told}
    return {name: json.dumps(document, ensure_ascii=False) for name, document in found.items()}


def _default(template: str | list[dict[str, str]] | None) -> str | None:
    """Return the template for plain chats, where a model has several by name."""
    if isinstance(template, list):
        return next((one["template"] for one in template if one["name"] == "default"), None)
    return template


def main(folder: str) -> int:
    """Print the documents; 1 with the reason where there are none that are known."""
    try:
        found = documents(Path(folder))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{folder} has no vocabulary that a gateway knows: {error}\n")
        return 1
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
