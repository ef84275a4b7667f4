"""Greedy generation with transformers and torch, run by the benchmark in a separate virtual environment.

For each line of standard input, generates once and prints a line ``{"tokens": ...}``. The first line of
output means that the model is loaded.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import CodeGenForCausalLM


def main() -> None:
    """Load the model and generate until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = CodeGenForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    prompt = torch.arange(1, options.prompt + 1)[None]
    print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        with torch.inference_mode():
            made = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, use_cache=True,
                pad_token_id=0, max_new_tokens=options.tokens, min_new_tokens=options.tokens,
            )  # fmt: skip
        print(json.dumps({"tokens": made.shape[1] - options.prompt}), flush=True)


if __name__ == "__main__":
    main()
