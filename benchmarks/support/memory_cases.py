"""The engines whose memory is measured: those of the stock stacks that compute on a CPU, and larger ones."""

from dataclasses import dataclass

from stackfile import load_stack
from stackfile.catalogue import ROOT, models
from stackfile.memory import Use
from stackfile.memory_checks import use_resolved


@dataclass(frozen=True)
class Case:
    """A model as it is served on a CPU: ``slots`` requests of ``context`` tokens.

    ``engine``: ``triton``, or ``llama`` for llama.cpp's own server. ``prompt``: the tokens of each request
    where a full context would take hours on a CPU.
    """

    model: str
    runtime: str
    precision: str
    context: int
    slots: int
    engine: str = "triton"
    prompt: int | None = None

    @property
    def use(self) -> Use:
        """The case as ``stackfile.memory`` computes it."""
        facts = models()[self.model]
        return Use(facts, self.runtime, self.precision, self.context, self.slots, self.engine)


def stock(name: str, prompt: int | None = None) -> Case:
    """Return the engine of a stack of the repository."""
    use = use_resolved(stack := load_stack(ROOT / "stacks" / f"{name}.yaml"))
    return Case(stack.model.id, use.runtime, use.precision, use.context, use.slots, use.engine, prompt)


QWEN = "qwen2.5-coder-0.5b-instruct-Q4_K_M"
# More than the largest step through a prompt, and minutes on two cores: llama.cpp writes the whole cache of
# every slot when it starts.
_PART = 576
SHORT = {
    "tiny": stock("tiny"),
    "tiny-onnx": Case("tiny-codegen", "onnxruntime", "int8", context=2048, slots=9),
    "tiny-llama": Case("tiny-codegen", "llama_cpp", "Q8_0", context=2048, slots=9),
}
LONG = {
    "code-completion-cpu": stock("code-completion-cpu"),
    "local": stock("local"),
    "personal-gpt-cpu": stock("personal-gpt-cpu", prompt=_PART),
    "mistral-q4": Case(
        "mistral-7b-instruct-Q4_K_M", "llama_cpp", "Q4_K_M", context=8192, slots=2, prompt=_PART
    ),
    "codegen-2b": Case("codegen-2B-multi", "ctranslate2", "int8", context=2048, slots=1),
    "smollm2": Case("smollm2-135m-instruct-Q4_1", "llama_cpp", "Q4_1", context=8192, slots=4),
    "qwen-1.5b": Case("qwen2.5-coder-1.5b-instruct-Q4_K_M", "llama_cpp", "Q4_K_M", context=4096, slots=2),
    "qwen-0.5b": Case(QWEN, "llama_cpp", "Q4_K_M", context=8192, slots=9),
}
