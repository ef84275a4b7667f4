"""Fill-in-the-middle templates: how a model takes prefix and suffix."""

import json
import re
from dataclasses import dataclass

PREFIX, SUFFIX = "{prefix}", "{suffix}"
_PLACEHOLDERS = re.compile(r"(\{prefix\}|\{suffix\})")
_FILE_SEPARATOR = "<|file_sep|>"


@dataclass(frozen=True)
class FimTemplate:
    """How prefix and suffix stand in a prompt, and the sentinels that end a completion.

    ``pieces`` are ``{prefix}`` and ``{suffix}`` once each, and between them token ids, or texts with control
    tokens. ``file_separator`` introduces another file, for models that were trained with one. A model without
    such tokens, as CodeGen 1, has no template: a suffix is never put into its prompt.
    """

    pieces: tuple[str | int, ...]
    stop: tuple[str, ...] = ()
    file_separator: str | int | None = None

    @classmethod
    def parse(cls, text: str) -> "FimTemplate":
        """Read ``{"template": "<fim_prefix>{prefix}...", "stop": [...]}``, or the bare template.

        Raises ``ValueError`` when a placeholder is missing or occurs twice.
        """
        document = json.loads(text) if text.lstrip().startswith('{"') else {"template": text}
        template, stop = document["template"], tuple(document.get("stop", ()))
        for placeholder in (PREFIX, SUFFIX):
            if template.count(placeholder) != 1:
                raise ValueError(f"ASSIST_FIM_TEMPLATE must contain {placeholder} exactly once: {template!r}")
        pieces = tuple(piece for piece in _PLACEHOLDERS.split(template) if piece)
        return cls(pieces, stop, _FILE_SEPARATOR if _FILE_SEPARATOR in stop else None)

    def clean(self, text: str) -> str:
        """Return user text without sentinels: a file that contains them must not redirect the model."""
        if not self.stop:
            return text
        return re.sub("|".join(re.escape(sentinel) for sentinel in self.stop), "", text)
