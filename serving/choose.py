"""Which runtime and precision to use where a stack says ``auto``: chosen by measurement, see docs/adr/."""

# From here on llama.cpp beats CTranslate2 about twofold at batch 1 on a CPU (benchmarks/bench_serving.py).
LLAMA_CPP_FROM_PARAMETERS = 100_000_000
# Below this compute capability's generation nothing but float32 runs in hardware.
FLOAT32_ONLY = frozenset({"k80"})


def runtime(architecture: str, parameters: int, accelerator: str) -> tuple[str, str]:
    """Return ``(runtime, precision)`` for a safetensors model with ``parameters`` weights."""
    if accelerator in FLOAT32_ONLY:
        return "ctranslate2", "float32"
    if accelerator != "cpu":
        return "ctranslate2", "int8_float16"
    if architecture == "codegen" and parameters >= LLAMA_CPP_FROM_PARAMETERS:
        return "llama_cpp", "Q8_0"
    return "ctranslate2", "int8"
