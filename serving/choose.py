"""Which runtime and precision serve a model, where the stack says ``auto``: chosen by measurement.

Standard library only: the stack's reader asks this on machines without any runtime.
"""

# Tokens per CPU second, 1 thread, AMD EPYC (benchmarks/bench_serving.py measures again):
#                    2.6 M parameters   357 M parameters
#                    1 stream           1 stream   8 streams
#   CTranslate2 int8       8681               26         136
#   llama.cpp Q8_0         3943               50          49 on a busy machine
# An editor waits for one stream, so that decides; a team that keeps eight streams busy at 350M is served
# better by ``runtime: ctranslate2``, whose batches are cheaper. Where the two cross in size was not looked
# for.
LLAMA_CPP_FROM_PARAMETERS = 100_000_000
# Below this compute capability's generation nothing but float32 runs in hardware.
FLOAT32_ONLY = frozenset({"k80"})
# What serving.convert turns into GGUF; others come as GGUF files or stay with CTranslate2.
GGUF_ARCHITECTURES = frozenset({"codegen", "gptj"})


def runtime(architecture: str, parameters: int, accelerator: str) -> tuple[str, str]:
    """Return ``(runtime, precision)`` for a safetensors model with ``parameters`` weights.

    ``accelerator`` is a name of the catalogue, such as ``cpu`` or ``t4``. GPUs get CTranslate2 by its
    documentation and have not been measured.
    """
    if accelerator in FLOAT32_ONLY:
        return "ctranslate2", "float32"
    if accelerator != "cpu":
        return "ctranslate2", "int8_float16"
    if architecture in GGUF_ARCHITECTURES and parameters >= LLAMA_CPP_FROM_PARAMETERS:
        return "llama_cpp", "Q8_0"
    return "ctranslate2", "int8"
