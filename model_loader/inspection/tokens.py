"""Fill-in-the-middle templates and stop tokens, from the texts of a vocabulary's special tokens."""

from collections.abc import Collection, Mapping
from typing import Any

# Templates by the sentinels that their models were trained with.
_TEMPLATES = (
    "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
    "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
    "<fim-prefix>{prefix}<fim-suffix>{suffix}<fim-middle>",
    "<|code_prefix|>{prefix}<|code_suffix|>{suffix}<|code_middle|>",
    "<\uff5cfim\u2581begin\uff5c>{prefix}<\uff5cfim\u2581hole\uff5c>{suffix}<\uff5cfim\u2581end\uff5c>",
    "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
    "[SUFFIX]{suffix}[PREFIX]{prefix}",
)
# These models' own order, which their sentinels don't show.
_SUFFIX_FIRST = ("mellum",)
# Further tokens that no completion contains.
_STRUCTURE = (
    "<|endoftext|>", "<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<|repo_name|>", "<|file_sep|>", "<file_sep>",
    "<filename>", "<|im_start|>", "<|im_end|>",
)  # fmt: skip
_ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|EOT|>", "<end_of_turn>")


def stop(special: Collection[str], ends: Collection[str]) -> list[str]:
    """Return the tokens that end a text or a chat's answer: its own ``ends``, and usual ones it has."""
    return list(dict.fromkeys([*ends, *(token for token in _ENDS if token in special)]))


def fim(
    special: Collection[str], ends: Collection[str], name: str, named: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """Return the entry's ``fim``, or None for a model without such tokens.

    Args:
        special: texts of the vocabulary's special tokens.
        ends: texts of the tokens that end a text.
        name: what the model is called, which tells the order for a few.
        named: the sentinels ``prefix``, ``suffix`` and ``middle`` where the file itself names them.

    """
    template = next((each for each in _TEMPLATES if set(_sentinels(each)) <= set(special)), None)
    if named and {"prefix", "suffix", "middle"} <= set(named) and named["prefix"] not in (template or ""):
        template = f"{named['prefix']}{{prefix}}{named['suffix']}{{suffix}}{named['middle']}"
    if template is None:
        return None
    sentinels = _sentinels(template)
    if len(sentinels) == len(_sentinels(_TEMPLATES[0])) and any(
        each in name.lower() for each in _SUFFIX_FIRST
    ):
        prefix, suffix, middle = sentinels
        template = f"{suffix}{{suffix}}{prefix}{{prefix}}{middle}"
    others = [token for token in _STRUCTURE if token in special]
    return {"template": template, "stop": list(dict.fromkeys([*ends, *sentinels, *others]))}


def _sentinels(template: str) -> list[str]:
    pieces = template.replace("{prefix}", "\0").replace("{suffix}", "\0").split("\0")
    return [piece for piece in pieces if piece]
