"""Generates the Triton model repository: a decoupled (streaming) model and a unary front of it."""

import argparse
import shutil
import struct
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

from serving.model_config import ModelConfig

UNARY = "fastertransformer"
STREAM = "fastertransformer_stream"
# The runtimes that can score prompt tokens.
SCORING = frozenset({"ctranslate2", "llama_cpp", "onnxruntime"})
# The file that a model directory of each runtime must have.
_MODEL_FILES = {"ctranslate2": "model.bin", "llama_cpp": "*.gguf", "onnxruntime": "model.onnx"}
# The first tokens' names in a GGUF file that ``serving.convert`` wrote: numbers, by which no text is meant.
_NUMBERED = b"".join(struct.pack("<Q", 3) + b"<%d>" % index for index in range(3))
_HEAD_BYTES = 64 * 1024
_BACKEND = Path(__file__).parent / "backend"
_MODEL_PY = '''"""Loads the backend that was copied beside this file."""

from assist_backend.{module} import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


class RepositoryError(Exception):
    """The repository cannot be generated; the message names the cause and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """What to serve, and how.

    Attributes:
        model_dir: folder of a converted model, or the store's link to it.
        runtime: ``ctranslate2``, ``llama_cpp`` or ``onnxruntime``.
        precision: the precision that the model was converted to.
        context_length: tokens of prompt and output together.
        slots: rows at once that each instance has memory for, each of ``context_length`` tokens.
        max_batch_size: rows per batch.
        instances: model instances per device.
        gpus: number of GPUs; 0 means the CPU.
        intra_threads: threads per batch; 0 uses all cores.
        streams: batches of streamed requests that CTranslate2 runs at the same time.
        max_queue_delay_us: microseconds that a request waits for others to share a batch.
        max_queue_size: requests that may wait before Triton refuses more.

    """

    model_dir: Path
    runtime: str
    precision: str
    context_length: int
    slots: int = 9
    max_batch_size: int = 16
    instances: int = 1
    gpus: int = 0
    intra_threads: int = 1
    streams: int = 4
    max_queue_delay_us: int = 0
    max_queue_size: int = 128

    @property
    def places(self) -> dict[str, int]:
        """Batches at the same time: together (``parallel``), of streams, and of whole requests.

        CTranslate2 runs one large batch of whole requests. The other runtimes advance all rows together and
        have a cache per row, a slot: each kind of request leaves one to the other.
        """
        if self.runtime == "ctranslate2":
            return {"parallel": self.streams + 1, "streams": self.streams, "wholes": 1}
        most = max(1, self.slots - 1)
        return {"parallel": self.slots, "streams": most, "wholes": most}

    @property
    def tokens(self) -> int:
        """Tokens of all rows at once, together; rows wait for room where they would need more."""
        return self.slots * self.context_length

    def check(self) -> None:
        """Raise ``RepositoryError`` for values that no runtime can serve."""
        for field in fields(self):
            value = getattr(self, field.name)
            minimum = 0 if field.name in {"gpus", "intra_threads", "max_queue_delay_us"} else 1
            if isinstance(value, int) and value < minimum:
                raise RepositoryError(f"{field.name} is {value}: the value must be at least {minimum}")
        model_file = _MODEL_FILES.get(self.runtime)
        if model_file is None:
            raise RepositoryError(
                f"unknown runtime {self.runtime!r}: choose one of {', '.join(_MODEL_FILES)}"
            )
        if not any(self.model_dir.glob(model_file)):
            raise RepositoryError(
                f"{self.model_dir} has no {model_file}: fetch and convert the model first (model-loader "
                f"fetch MODEL --runtime {self.runtime} --precision {self.precision})"
            )


def generate(target: Path, repository: Repository) -> bool:
    """Make ``target`` the model repository that ``repository`` describes; return whether anything changed.

    The new repository is built beside the old one and then renamed, so a server that starts meanwhile sees
    the old or the new one, complete. The weights are a symbolic link to the resolved model folder, so a later
    switch of the store's ``current`` link does not affect a running server.

    Args:
        target: the folder to create or replace; its parent is created if needed.
        repository: the model, its runtime and the limits (sizes in rows and tokens, delays in microseconds).

    Raises:
        RepositoryError: no runtime can serve these values, or the model's folder lacks its file.

    """
    repository.check()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as work:
        built = Path(work) / "new"
        built.mkdir(mode=0o755)
        _write_model(built / STREAM, _config(repository), "model")
        (built / STREAM / "1" / "model").symlink_to(repository.model_dir.resolve())
        _write_model(built / UNARY, _front_config(repository), "front")
        if target.is_dir() and _content(built) == _content(target):
            return False
        if target.exists():
            target.rename(Path(work) / "old")
        built.rename(target)
    return True


def _write_model(directory: Path, config: ModelConfig, module: str) -> None:
    version = directory / "1"
    version.mkdir(parents=True)
    (directory / "config.pbtxt").write_text(config.text(), "utf-8")
    (version / "model.py").write_text(_MODEL_PY.format(module=module), "utf-8")
    shutil.copytree(_BACKEND, version / "assist_backend", ignore=shutil.ignore_patterns("__pycache__"))


def _config(repository: Repository) -> ModelConfig:
    """Return the configuration of the decoupled model, which holds the weights."""
    parameters = {
        "runtime": repository.runtime,
        "precision": repository.precision,
        "context_length": str(repository.context_length),
        "intra_threads": str(repository.intra_threads),
        "tokens": str(repository.tokens),
        "backlog": str(_backlog(repository)),
        # Tells clients that the request parameters withdrawable and withdraw are supported.
        "withdraws": "true",
    }
    parameters |= _constrains(repository)
    return ModelConfig(
        name=STREAM,
        decoupled=True,
        max_batch_size=repository.max_batch_size,
        instances=repository.instances,
        gpus=repository.gpus,
        max_queue_delay_us=repository.max_queue_delay_us,
        max_queue_size=repository.max_queue_size,
        parameters=parameters | {name: str(count) for name, count in repository.places.items()},
    )


def _front_config(repository: Repository) -> ModelConfig:
    """Return the configuration of the unary model, which passes requests on to the decoupled one."""
    copies = repository.instances * max(1, repository.gpus)
    parameters = {"model": STREAM, "backlog": str(copies * _backlog(repository))} | _constrains(repository)
    if repository.runtime in SCORING:
        # Tells clients that the request parameter score_from is supported.
        parameters["scores"] = "true"
    return ModelConfig(
        name=UNARY,
        decoupled=False,
        max_batch_size=repository.max_batch_size,
        instances=1,
        gpus=0,
        # The delay serves batches, which the decoupled model forms.
        max_queue_delay_us=0,
        max_queue_size=repository.max_queue_size,
        parameters=parameters,
    )


def _constrains(repository: Repository) -> dict[str, str]:
    """Return what tells clients that the request parameter grammar is supported.

    llama.cpp does, for files with the names of their tokens: a grammar is about text.
    """
    if repository.runtime != "llama_cpp":
        return {}
    with min(repository.model_dir.glob("*.gguf")).open("rb") as opened:
        numbered = _NUMBERED in opened.read(_HEAD_BYTES)
    return {} if numbered else {"constrains": "true"}


def _backlog(repository: Repository) -> int:
    """Return the rows of a kind that wait: two full batches keep the runtime busy.

    Further rows wait in Triton's queue, which can refuse them.
    """
    return 2 * repository.max_batch_size


def _content(root: Path) -> dict[str, bytes | str]:
    """Map every file and link below ``root`` to its content or target, except the server's bytecode."""
    content: dict[str, bytes | str] = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            content[str(path.relative_to(root))] = str(path.readlink())
        elif path.is_file() and "__pycache__" not in path.parts:
            content[str(path.relative_to(root))] = path.read_bytes()
    return content


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 success, 1 invalid values."""
    parser = argparse.ArgumentParser(prog="python -m serving.model_repository", description=__doc__)
    parser.add_argument("target", type=Path, help="folder to create or replace")
    for field in fields(Repository):
        flag = "--" + field.name.replace("_", "-")
        kind = {"model_dir": Path, "runtime": str, "precision": str}.get(field.name, int)
        required = field.name in {"model_dir", "runtime", "precision", "context_length"}
        parser.add_argument(flag, type=kind, required=required, default=None if required else field.default)
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
