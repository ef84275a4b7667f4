"""Fill-in-the-middle templates: how a model takes prefix and suffix."""

import json
import re
from dataclasses import dataclass

_PLACEHOLDERS = re.compile(r"(\{prefix\}|\{suffix\})")
_FILE_SEPARATOR = "<|file_sep|>"


@dataclass(frozen=True)
class FimTemplate:
    """A template with ``{prefix}`` and ``{suffix}`` once each, and the sentinels that end a completion.

    CodeGen 1 has no such tokens and therefore no template: a suffix is then ignored, never put into the
    prompt.
    """

    template: str
    stop: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "FimTemplate":
        """Read ``{"template": "<fim_prefix>{prefix}...", "stop": [...]}``, or the bare template.

        Raises ``ValueError`` when a placeholder is missing or occurs twice.
        """
        document = json.loads(text) if text.lstrip().startswith('{"') else {"template": text}
        template = cls(document["template"], tuple(document.get("stop", ())))
        for placeholder in ("{prefix}", "{suffix}"):
            if template.template.count(placeholder) != 1:
                raise ValueError(
                    f"ASSIST_FIM_TEMPLATE must contain {placeholder} exactly once: {template.template!r}"
                )
        return template

    def pieces(self) -> list[str]:
        """Return the template split around its placeholders, which stay in the list."""
        return [piece for piece in _PLACEHOLDERS.split(self.template) if piece]

    def clean(self, text: str) -> str:
        """Return user text without sentinels: a file that contains them must not redirect the model."""
        if not self.stop:
            return text
        return re.sub("|".join(re.escape(sentinel) for sentinel in self.stop), "", text)

    @property
    def file_separator(self) -> str | None:
        """Return the token that introduces another file, for models that were trained with one."""
        return _FILE_SEPARATOR if _FILE_SEPARATOR in self.stop else None
