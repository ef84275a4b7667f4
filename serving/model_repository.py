"""Generate the Triton model repository: a unary model and its decoupled (streaming) twin."""

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

from serving.model_config import ModelConfig

UNARY = "fastertransformer"
STREAM = "fastertransformer_stream"
# The runtimes that can tell the log probabilities of a given text.
SCORING = frozenset({"ctranslate2", "llama_cpp", "onnxruntime"})
# What a model directory of each runtime has.
_WANTED = {"ctranslate2": "model.bin", "llama_cpp": "*.gguf", "onnxruntime": "model.onnx"}
_BACKEND = Path(__file__).parent / "backend"
_MODEL_PY = '''"""Loads the backend that was copied beside this file."""

from assist_backend.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


class RepositoryError(Exception):
    """A repository that cannot be made; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What to serve and how. ``gpus`` 0 means the CPU; ``streams`` is how many of them advance at once."""

    model_dir: Path
    runtime: str
    precision: str
    context_length: int
    max_batch_size: int = 16
    instances: int = 1
    gpus: int = 0
    split: int = 1
    intra_threads: int = 1
    streams: int = 4
    max_queue_delay_us: int = 0
    max_queue_size: int = 128

    @property
    def batches(self) -> int:
        """How many batches of the unary model run at once; the others make one of them all."""
        return 1 if self.runtime == "ctranslate2" else min(self.max_batch_size, 8)

    def check(self) -> None:
        """Raise ``RepositoryError`` for what no runtime can serve."""
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in {"gpus", "intra_threads", "max_queue_delay_us"} else 1
            if isinstance(value, int) and value < least:
                raise RepositoryError(f"{field.name} is {value}: it must be at least {least}")
        if self.split > 1:
            raise RepositoryError(
                f"the model is to be split over {self.split} GPUs, which {self.runtime} cannot do here: "
                "CTranslate2 needs an MPI launcher for it, which Triton's backend processes do not have. Use "
                "one GPU with enough memory or a lower precision; several GPUs can each hold a whole copy"
            )
        wanted = _WANTED.get(self.runtime)
        if wanted is None:
            raise RepositoryError(f"no runtime {self.runtime!r}: choose one of {', '.join(_WANTED)}")
        if not any(self.model_dir.glob(wanted)):
            raise RepositoryError(
                f"{self.model_dir} has no {wanted}: fetch and convert the model first (model-loader fetch "
                f"MODEL --runtime {self.runtime} --precision {self.precision})"
            )


def generate(target: Path, repository: Repository) -> bool:
    """Make ``target`` the model repository that ``repository`` describes; return whether anything changed.

    It is built beside and swapped in, so a server that starts meanwhile sees the old one or the new one,
    whole. The weights are reached by a symbolic link to the resolved model directory: a later switch of the
    store's ``current`` link does not change a running server under its feet. Raises ``RepositoryError``.
    """
    repository.check()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as work:
        built = Path(work) / "new"
        built.mkdir(mode=0o755)
        for name in (UNARY, STREAM):
            _write_model(built / name, repository, decoupled=name == STREAM)
        if target.is_dir() and _content(built) == _content(target):
            return False
        if target.exists():
            target.rename(Path(work) / "old")
        built.rename(target)
    return True


def _write_model(directory: Path, repository: Repository, *, decoupled: bool) -> None:
    version = directory / "1"
    version.mkdir(parents=True)
    config = _config(directory.name, repository, decoupled=decoupled)
    (directory / "config.pbtxt").write_text(config.text(), "utf-8")
    (version / "model.py").write_text(_MODEL_PY, "utf-8")
    shutil.copytree(_BACKEND, version / "assist_backend", ignore=shutil.ignore_patterns("__pycache__"))
    (version / "model").symlink_to(repository.model_dir.resolve())


def _config(name: str, repository: Repository, *, decoupled: bool) -> ModelConfig:
    parameters = {
        "runtime": repository.runtime,
        "precision": repository.precision,
        "context_length": str(repository.context_length),
        "intra_threads": str(repository.intra_threads),
        "parallel": str(repository.streams if decoupled else repository.batches),
        # Two full batches keep the runtime busy; what comes on top waits in Triton's queue, which can refuse.
        "backlog": str(2 * repository.max_batch_size),
    }
    if decoupled:
        # A client learns from this that it may send the request parameters withdrawable and withdraw.
        parameters["withdraws"] = "true"
    elif repository.runtime in SCORING:
        # A client learns from this that it may send the request parameter score_from.
        parameters["scores"] = "true"
    return ModelConfig(
        name=name,
        decoupled=decoupled,
        max_batch_size=repository.max_batch_size,
        instances=repository.instances,
        gpus=repository.gpus,
        max_queue_delay_us=repository.max_queue_delay_us,
        max_queue_size=repository.max_queue_size,
        parameters=parameters,
    )


def _content(root: Path) -> dict[str, bytes | str]:
    """Map every file and link below ``root`` to its content or target, but for what the server leaves."""
    content: dict[str, bytes | str] = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            content[str(path.relative_to(root))] = str(path.readlink())
        elif path.is_file() and "__pycache__" not in path.parts:
            content[str(path.relative_to(root))] = path.read_bytes()
    return content


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status: 0 done, 1 refused."""
    parser = argparse.ArgumentParser(prog="python -m serving.model_repository", description=__doc__)
    parser.add_argument("target", type=Path, help="the directory to make")
    for field in fields(Repository):
        flag = "--" + field.name.replace("_", "-")
        kind = {"model_dir": Path, "runtime": str, "precision": str}.get(field.name, int)
        needed = field.name in {"model_dir", "runtime", "precision", "context_length"}
        parser.add_argument(flag, type=kind, required=needed, default=None if needed else field.default)
    options = vars(parser.parse_args(arguments))
    try:
        changed = generate(options.pop("target"), Repository(**options))
    except RepositoryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("changed\n" if changed else "unchanged\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
