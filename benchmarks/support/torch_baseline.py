"""Tokens per second of transformers and torch, run by the benchmark in a virtual environment of its own."""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import CodeGenForCausalLM


def main() -> None:
    """Print ``{"tokens_per_s": ...}`` of the best of several greedy generations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = CodeGenForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype)).eval()
    prompt = torch.arange(1, options.prompt + 1)[None]
    wall = []
    for _ in range(options.repeats + 1):
        begin = time.perf_counter()
        with torch.inference_mode():
            made = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=0,
                max_new_tokens=options.tokens, min_new_tokens=options.tokens,
            )  # fmt: skip
        wall.append(time.perf_counter() - begin)
        assert made.shape[1] == options.prompt + options.tokens
    print(json.dumps({"tokens_per_s": options.tokens / min(wall[1:])}))


if __name__ == "__main__":
    main()
