"""The environment with torch: where it is, and pickled checkpoints that a real torch writes."""

import os
import subprocess
from pathlib import Path

from serving.convert import pickled
from testing import needs

ROOT = Path(__file__).parent.parent
MAKE = "scripts/bootstrap .run/venvs/torch requirements/torch.txt && make test"
# As the hub's CodeGen has them: float16 weights, and each layer's mask, which no converter reads.
_WRITE = """
import json, sys, torch
source, target, shards, *options = sys.argv[1:]
data = open(source, "rb").read()
length = int.from_bytes(data[:8], "little")
header = json.loads(data[8 : 8 + length])
header.pop("__metadata__", None)
types = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16}
state = {}
for name, entry in header.items():
    start, end = (8 + length + at for at in entry["data_offsets"])
    state[name] = torch.frombuffer(bytearray(data[start:end]), dtype=types[entry["dtype"]]).reshape(entry["shape"])
for layer in {name.split(".")[2] for name in state if name.startswith("transformer.h.")}:
    state[f"transformer.h.{layer}.attn.causal_mask"] = torch.ones(1, 1, 64, 64).tril().bool()
    state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
if "old" in options:
    torch.save(state, f"{target}/pytorch_model.bin", _use_new_zipfile_serialization=False)
elif shards == "1":
    torch.save(state, f"{target}/pytorch_model.bin")
else:
    names = [f"pytorch_model-{n + 1:05}-of-{int(shards):05}.bin" for n in range(int(shards))]
    places = {name: names[at % len(names)] for at, name in enumerate(state)}
    for shard in names:
        torch.save({name: state[name] for name in state if places[name] == shard}, f"{target}/{shard}")
    with open(f"{target}/pytorch_model.bin.index.json", "w") as file:
        json.dump({"metadata": {}, "weight_map": places}, file)
"""
# Writes a file that runs a command where it is unpickled as any pickle is.
MALICIOUS = """
import os, sys, torch
class Command:
    def __reduce__(self):
        return os.system, (f"touch {sys.argv[2]}",)
torch.save({"a": torch.ones(3), "b": Command()}, sys.argv[1])
"""


def python() -> Path:
    """Return the Python with torch, the clone's own or the one that is named; skip where there is none."""
    named = os.environ.get(pickled.VARIABLE)
    found = Path(named) if named else ROOT / ".run" / "venvs" / "torch" / "bin" / "python"
    if not found.is_file():
        needs.skip("there is no environment with torch, 2.3 GiB to download", MAKE)
    return found


def run(program: str, *arguments: object) -> None:
    """Run a program with torch's interpreter. Raises CalledProcessError."""
    argv = [str(python()), "-I", "-W", "ignore", "-c", program, *map(str, arguments)]
    subprocess.run(argv, check=True)


def pickle_weights(source: Path, target: Path, shards: int = 1, *options: str) -> None:
    """Write a safetensors file's tensors as torch's pickles; with ``old`` in the format before torch 1.6."""
    run(_WRITE, source, target, shards, *options)
