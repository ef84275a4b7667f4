"""CTranslate2: int8 on any CPU, int8_float16 on a T4."""

import json
from collections.abc import Sequence
from typing import Any

import ctranslate2

from ..rows import Row
from .base import Options


class CTranslate2Runtime:
    """One ``ctranslate2.Generator``; parallel batches share its weights."""

    def __init__(self, options: Options) -> None:
        """Load the model and run one token through it, so that the first client does not pay for that."""
        document = json.loads((options.model_dir / "config.json").read_text("utf-8"))
        self._tokens: list[str] = json.loads((options.model_dir / "vocabulary.json").read_text("utf-8"))
        self.vocabulary_size = len(self._tokens)
        self.eos_id = self._tokens.index(document["eos_token"])
        self.parallel = options.parallel
        self.max_rows = options.max_rows
        self._generator = ctranslate2.Generator(
            str(options.model_dir),
            device=options.device,
            device_index=options.device_index,
            compute_type=options.precision,
            inter_threads=options.parallel,
            intra_threads=options.threads,
        )
        self._generator.generate_batch(
            [[self._tokens[self.eos_id]]] * options.parallel, max_batch_size=1, max_length=1
        )

    def generate(self, rows: Sequence[Row]) -> None:
        """Continue the rows as one batch; see ``Runtime``."""
        self._generator.generate_batch(
            [[self._tokens[token] for token in row.prompt] for row in rows],
            max_length=max(row.limit for row in rows),
            callback=lambda step: rows[step.batch_id].push(step.token_id, step.log_prob or 0.0),
            **self._options(rows[0]),
        )

    def close(self) -> None:
        """Free the model."""
        self._generator.unload_model()

    def _options(self, row: Row) -> dict[str, Any]:
        settings = row.settings
        words = [[self._tokens[token] for token in word] for word in settings.bad_words]
        return {
            "include_prompt_in_result": False,
            "sampling_topk": settings.top_k,
            "sampling_topp": settings.top_p,
            "sampling_temperature": settings.temperature,
            "repetition_penalty": settings.repetition_penalty,
            "suppress_sequences": words or None,
            "end_token": [settings.end_id],
            "return_end_token": True,
            "return_scores": True,
        }
