"""Dashboards on what computes: the engine, its capacity and cost."""

from monitoring.dashboards.panels import STACK, STACKS, WINDOW, Panel, Query, board, entry, lines, value
from monitoring.dashboards.service import PER_TOKEN, quantiles, rate

TOKENS = "vllm:generation_tokens_total"
PROMPTS = "vllm:prompt_tokens_total"
# On clusters DCGM's exporter knows nothing of stacks; there the pod's dashboard has its GPU.
_GPU = "{{instance}} GPU {{gpu}}"
_ENGINES = f'count(up{{{STACK}, job=~"triton|llama|engine"}} == 1)'


def engine() -> str:
    """Return the dashboard on the engine."""
    return board(
        "engine",
        "engine",
        "What the engine does: slots, cache, tokens per second, Triton's own times.",
        {"Slots": _slots(), "Cache": _cache(), "Tokens": _tokens(), "Triton": _triton()},
    )


def _slots() -> list[Panel]:
    return [
        lines(
            "Slots, as gateways use them",
            "none",
            Query(f"vllm:num_requests_running{{{STACK}}}", "used {{instance}}"),
            Query(f"assist_slots{{{STACK}}}", "bound {{instance}}"),
        ),
        lines(
            "Queue",
            "none",
            Query(f"vllm:num_requests_waiting{{{STACK}}}", "waiting {{instance}}"),
            Query(f"assist_queue_size{{{STACK}}}", "bound {{instance}}"),
        ),
        lines(
            "Batches in the engine",
            "none",
            Query(f"assist_engine_batches_running{{{STACK}}}", "running {{instance}}"),
            Query(f"assist_engine_batches{{{STACK}}}", "bound {{instance}}"),
            Query(f"assist_engine_rows_waiting{{{STACK}}}", "rows that wait {{instance}}"),
        ),
    ]


def _cache() -> list[Panel]:
    used, room = (f"assist_engine_cache_tokens{end}{{{STACK}}}" for end in ("_used", ""))
    return [
        lines(
            "Cache",
            "short",
            Query(used, "used {{instance}}"),
            Query(room, "bound {{instance}}"),
            about="Tokens.",
        ),
        lines("Share of the cache in use", "percentunit", Query(f"{used} / {room}", "{{instance}}")),
        lines(
            "Prompt tokens found in llama.cpp's slots",
            "short",
            Query(rate("llamacpp:prompt_tokens_cached_total", "instance"), "{{instance}}"),
            about="Tokens per second, of models that llama.cpp serves in Triton.",
        ),
    ]


def _tokens() -> list[Panel]:
    return [
        lines(
            "Tokens per second",
            "short",
            Query(rate(TOKENS), "generated"),
            Query(rate(PROMPTS), "read"),
            Query(rate("assist_tokens_wasted_total"), "for clients that had left"),
        ),
        quantiles("Time of a token after the first", "s", PER_TOKEN),
        quantiles("Tokens of an answer", "short", "vllm:request_generation_tokens"),
        quantiles("Tokens of a prompt", "short", "vllm:request_prompt_tokens"),
        lines(
            "How answers end",
            "reqps",
            Query(rate("vllm:request_success_total", "finished_reason"), "{{finished_reason}}"),
        ),
        lines(
            "Tokens per second and request at the engine",
            "short",
            Query(
                f"{rate(TOKENS)} / (sum(vllm:num_requests_running{{{STACK}}}) > 0 or vector(1))", "tokens/s"
            ),
        ),
    ]


def _triton() -> list[Panel]:
    served = rate("nv_inference_request_success", "model")

    def mean(microseconds: str) -> str:
        return f"{rate(microseconds, 'model')} / 1e6 / ({served} > 0)"

    return [
        lines(
            "Triton's requests",
            "reqps",
            Query(served, "{{model}} served"),
            Query(rate("nv_inference_request_failure", "model"), "{{model}} failed"),
        ),
        lines("Mean time in Triton's queue", "s", Query(mean("nv_inference_queue_duration_us"), "{{model}}")),
        lines(
            "Mean time of a request in Triton",
            "s",
            Query(mean("nv_inference_request_duration_us"), "{{model}}"),
        ),
    ]


def capacity() -> str:
    """Return the dashboard on how much is left, and what it costs."""
    return board(
        "capacity",
        "capacity and cost",
        "How much of the service is in use, and what a token costs. Enter the price of one engine's machine.",
        {"In use": _in_use(), "Cost": _cost(), "Memory and processors": _processes(), "GPUs": _gpus()},
        (STACKS, entry("price", "Price of a machine per hour", "1")),
    )


def _in_use() -> list[Panel]:
    slots = f"sum(vllm:num_requests_running{{{STACK}}}) / sum(assist_slots{{{STACK}}})"
    queue = f"sum(vllm:num_requests_waiting{{{STACK}}}) / (sum(assist_queue_size{{{STACK}}}) > 0)"
    return [
        lines("Slots and queue in use", "percentunit", Query(slots, "slots"), Query(queue, "queue")),
        lines("Tokens per second and engine", "short", Query(f"{rate(TOKENS)} / {_ENGINES}", "tokens/s")),
        lines(
            "Refused before work, by reason",
            "reqps",
            Query(rate("assist_requests_refused_total", "reason"), "{{reason}}"),
        ),
        lines("Jobs that wait or run", "none", Query(f"max(assist_jobs_open{{{STACK}}})", "jobs")),
        lines(
            "Redis' memory",
            "bytes",
            Query(f"max by (redis) (redis_memory_used_bytes{{{STACK}}})", "used {{redis}}"),
            Query(f"max by (redis) (redis_memory_max_bytes{{{STACK}}})", "bound {{redis}} (0: none)"),
        ),
        lines("Engines that respond", "none", Query(_ENGINES, "engines")),
    ]


def _cost() -> list[Panel]:
    hourly, produced = f"{_ENGINES} * $price", f"sum(rate({TOKENS}{{{STACK}}}[1h])) * 3600"
    ended = f"sum(rate(gen_ai_server_request_duration_seconds_count{{{STACK}}}[1h])) * 3600"
    return [
        value("Engines", "none", _ENGINES),
        value("Cost of a day", "none", f"{hourly} * 24", "At the present number of engines."),
        value(
            "Cost of a million tokens",
            "none",
            f"1e6 * {hourly} / ({produced} > 0)",
            "Generated in the last hour.",
        ),
        value("Cost of a thousand requests", "none", f"1e3 * {hourly} / ({ended} > 0)", "Of the last hour."),
        value("Tokens generated, 1 d", "short", f"sum(increase({TOKENS}{{{STACK}}}[1d]))"),
        value("Tokens read, 1 d", "short", f"sum(increase({PROMPTS}{{{STACK}}}[1d]))"),
    ]


def _processes() -> list[Panel]:
    def each(metric: str) -> Query:
        return Query(f"{metric}{{{STACK}}}", "{{job}} {{instance}}")

    cores = f"rate(process_cpu_seconds_total{{{STACK}}}[{WINDOW}])"
    return [
        lines("Processors used by processes", "none", Query(cores, "{{job}} {{instance}}"), about="Cores."),
        lines("Memory of processes", "bytes", each("process_resident_memory_bytes")),
        lines("Open files of processes", "none", each("process_open_fds"), each("process_max_fds")),
    ]


def _gpus() -> list[Panel]:
    return [
        lines("GPU in use", "percent", Query(f"DCGM_FI_DEV_GPU_UTIL{{{STACK}}}", _GPU)),
        lines(
            "GPU memory",
            "mbytes",
            Query(f"DCGM_FI_DEV_FB_USED{{{STACK}}}", f"used {_GPU}"),
            Query(f"DCGM_FI_DEV_FB_FREE{{{STACK}}}", f"free {_GPU}"),
        ),
        lines("Power", "watt", Query(f"DCGM_FI_DEV_POWER_USAGE{{{STACK}}}", _GPU)),
    ]
