"""Train tiny-codegen on the token stream of ``train_tokenizer.py`` and save it as float16 safetensors.

Needs ``torch`` and ``transformers``, which nothing else in this project does. Takes 20 minutes of one core.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import CodeGenConfig, CodeGenForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
CONTEXT, BATCH, VALIDATION = 256, 16, 40_000
RATE, WARM_UP = 3e-3, 30


def new_model(vocabulary: int) -> CodeGenForCausalLM:
    """Return an untrained model of 2.56 M parameters."""
    sizes = {"n_positions": 2048, "n_ctx": 2048, "n_embd": 192, "n_layer": 4, "n_head": 4, "rotary_dim": 32}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False}
    return CodeGenForCausalLM(CodeGenConfig(vocab_size=vocabulary, **sizes, **dropout, **ends))


def optimizer_of(model: CodeGenForCausalLM) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices and leaves norms and biases alone."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    kept = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))


def batches(stream: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield random windows of the stream, the same ones every time."""
    random = torch.Generator().manual_seed(1)
    while True:
        starts = torch.randint(0, len(stream) - CONTEXT - 1, (BATCH,), generator=random)
        yield torch.stack([stream[start : start + CONTEXT] for start in starts])


def train(model: CodeGenForCausalLM, stream: torch.Tensor, seconds: float) -> int:
    """Train for so many seconds of wall time; return the number of steps."""
    optimizer, begin = optimizer_of(model), time.monotonic()
    model.train()
    for step, window in enumerate(batches(stream)):
        done = (time.monotonic() - begin) / seconds
        if done >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (1 - 0.95 * done)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(window, labels=window).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return 0


def validation_loss(model: CodeGenForCausalLM, stream: torch.Tensor) -> float:
    """Return the mean cross entropy per token, in nats, on text that was held back."""
    model.eval()
    windows = [stream[i : i + CONTEXT][None] for i in range(0, len(stream) - CONTEXT, 4 * CONTEXT)]
    with torch.no_grad():
        return math.fsum(model(window, labels=window).loss.item() for window in windows) / len(windows)


def main() -> None:
    """Write the weights, their configuration and the tokenizer's companions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where train_tokenizer.py wrote")
    parser.add_argument("--seconds", type=float, default=1200)
    options = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(options.dir / "tokenizer.json"), bos_token=END, eos_token=END, unk_token=END
    )
    stream = torch.from_numpy(np.load(options.dir / "tokens.npy").astype(np.int64))
    model = new_model(len(tokenizer))
    steps = train(model, stream[VALIDATION:], options.seconds)
    loss = validation_loss(model, stream[:VALIDATION])
    print(f"{steps} steps, validation loss {loss:.3f}")  # noqa: T201 -- the result of a script run by hand
    model.to(torch.float16).save_pretrained(options.dir, safe_serialization=True)
    tokenizer.save_pretrained(options.dir)


if __name__ == "__main__":
    main()
