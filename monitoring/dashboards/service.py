"""Dashboards on requests: the service, its users."""

from monitoring.dashboards.panels import STACK, WINDOW, Panel, Query, board, heat, lines, listing, value
from monitoring.slo import BAD

DURATION = "gen_ai_server_request_duration_seconds"
FIRST = "gen_ai_server_time_to_first_token_seconds"
PER_TOKEN = "gen_ai_server_time_per_output_token_seconds"  # noqa: S105 -- a metric
QUEUE = "assist_queue_duration_seconds"
ERRORS = "stack:assist_request_errors:ratio_rate"
SLOW = "stack:assist_first_token_slow:ratio_rate"
# Of the answers that came: how a request ended is a question of its own.
_ANSWERED = f'{STACK}, outcome="ok"'


def rate(metric: str, by: str = "", labels: str = STACK) -> str:
    """Return the sum per second of a counter, by the labels ``by``."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[{WINDOW}]))"


def quantile(share: float, histogram: str, labels: str = STACK) -> str:
    """Return the value that ``share`` of a histogram's observations do not exceed."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', 'le', labels)})"


def quantiles(title: str, unit: str, histogram: str, labels: str = STACK, about: str = "") -> Panel:
    """Return the median and the two ends that users feel."""
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    queries = [Query(quantile(share, histogram, labels), name) for name, share in shares.items()]
    return lines(title, unit, *queries, about=about)


def _windows(record: str) -> list[Query]:
    return [Query(f"{record}{window}{{{STACK}}}", window) for window in ("5m", "1h", "6h", "3d")]


def service() -> str:
    """Return the dashboard on what users get."""
    return board(
        "service",
        "service",
        "What users get: objectives, traffic, latencies, errors.",
        {
            "Objectives": _objectives(),
            "Traffic": _traffic(),
            "Latency": _latency(),
            "Errors": _errors(),
        },
    )


def _objectives() -> list[Panel]:
    firing = f'count(ALERTS{{{STACK}, alertstate="firing"}}) or vector(0)'
    return [
        value("Alerts that fire", "none", firing, "Each has a runbook in docs/runbooks."),
        value("Failed, 1 h", "percentunit", f"{ERRORS}1h{{{STACK}}}", "Clients' own errors do not count."),
        value("Failed, 3 d", "percentunit", f"{ERRORS}3d{{{STACK}}}", "Clients' own errors do not count."),
        value("Slow to the first token, 1 h", "percentunit", f"{SLOW}1h{{{STACK}}}"),
        value("First token, p95", "s", quantile(0.95, FIRST)),
        value(
            "Engines that can be used", "none", f"sum(assist_engine_up{{{STACK}}})", "As gateways see them."
        ),
        lines("Failed requests, by window", "percentunit", *_windows(ERRORS)),
        lines("Streams slow to their first token, by window", "percentunit", *_windows(SLOW)),
        lines(
            "Engine, as each gateway sees it", "none", Query(f"assist_engine_up{{{STACK}}}", "{{instance}}")
        ),
    ]


def _traffic() -> list[Panel]:
    ended = f"{DURATION}_count"
    return [
        lines("Requests, by outcome", "reqps", Query(rate(ended, "outcome"), "{{outcome}}"), stacked=True),
        lines(
            "Requests, by dialect and kind",
            "reqps",
            Query(rate(ended, "dialect, kind"), "{{dialect}} {{kind}}"),
            stacked=True,
        ),
        lines(
            "Requests at the engine and in the queue",
            "none",
            Query(f"sum(vllm:num_requests_running{{{STACK}}})", "at the engine"),
            Query(f"sum(vllm:num_requests_waiting{{{STACK}}})", "in the queue"),
        ),
        lines(
            "HTTP responses, by status", "reqps", Query(rate("http_requests_total", "status"), "{{status}}")
        ),
        lines("Requests, by model", "reqps", Query(rate(ended, "model"), "{{model}}")),
        lines(
            "Answers that needed no engine",
            "reqps",
            Query(rate("assist_recent_answers_total"), "typed along"),
            about="The caller typed what an earlier answer had proposed.",
        ),
    ]


def _latency() -> list[Panel]:
    return [
        heat("Arrival to first token, of streams", rate(f"{FIRST}_bucket", "le")),
        heat("Arrival to last token", rate(f"{DURATION}_bucket", "le", _ANSWERED)),
        heat("Wait for a slot", rate(f"{QUEUE}_bucket", "le")),
        quantiles("First token", "s", FIRST),
        quantiles("Whole request", "s", DURATION, _ANSWERED),
        quantiles("Time of a token after the first", "s", PER_TOKEN),
        quantiles("Wait for a slot", "s", QUEUE),
        quantiles("The gateway's own time", "s", "assist_overhead_seconds"),
        lines(
            "First token, p95, by kind",
            "s",
            Query(f"histogram_quantile(0.95, {rate(f'{FIRST}_bucket', 'le, kind')})", "{{kind}}"),
        ),
    ]


def _errors() -> list[Panel]:
    ended, bad = f"{DURATION}_count", f'{STACK}, outcome=~"{BAD}"'
    return [
        lines(
            "Requests without a full answer, by outcome",
            "reqps",
            Query(rate(ended, "outcome", f'{STACK}, outcome!="ok"'), "{{outcome}}"),
        ),
        lines(
            "The service's failures",
            "reqps",
            Query(f"{rate(ended, labels=bad)} or 0 * {rate(ended)}", "failed"),
            about=f"Outcomes {BAD.replace('|', ', ')}.",
        ),
        lines(
            "Refused before work, by reason",
            "reqps",
            Query(rate("assist_requests_refused_total", "reason"), "{{reason}}"),
        ),
        lines(
            "HTTP errors, by route",
            "reqps",
            Query(
                rate("http_requests_total", "handler, status", f'{STACK}, status=~"[45].."'),
                "{{status}} {{handler}}",
            ),
        ),
        lines(
            "Authentication, by outcome", "reqps", Query(rate("assist_auth_total", "outcome"), "{{outcome}}")
        ),
        lines(
            "What was lost on the way",
            "reqps",
            Query(rate("assist_requests_cancelled_total"), "client left"),
            Query(rate("assist_completions_expired_total"), "cut by the deadline"),
            Query(rate("assist_redis_failures_total"), "Redis calls failed"),
            Query(rate("assist_prompts_truncated_total"), "prompts cut to the context"),
        ),
    ]


def users() -> str:
    """Return the dashboard on who uses the service."""
    today = {
        each: f"sum by (user) (increase(assist_user_{each}_total{{{STACK}}}[1d]))"
        for each in ("requests", "tokens", "refused")
    }
    return board(
        "users",
        "users",
        "Who uses the service. Users beyond the `monitoring: {users}` heaviest are `other`; a total over "
        "days may lack the beginning of a user whose series is new.",
        {
            "Now": [
                value(
                    "Users, 1 h",
                    "none",
                    f"count(sum by (user) (increase(assist_user_requests_total{{{STACK}}}[1h])) > 0)",
                ),
                value("Users, 1 d", "none", f"count({today['requests']} > 0)"),
                value("Requests, 1 d", "short", f"sum(increase(assist_user_requests_total{{{STACK}}}[1d]))"),
                value("Tokens, 1 d", "short", f"sum(increase(assist_user_tokens_total{{{STACK}}}[1d]))"),
                value(
                    "Share of the heaviest user, 1 d",
                    "percentunit",
                    f"max({today['tokens']}) / (sum({today['tokens']}) > 0)",
                ),
                value("Refused, 1 d", "short", f"sum(increase(assist_user_refused_total{{{STACK}}}[1d]))"),
            ],
            "The ten that use most": [
                lines("Requests", "reqps", Query(_top("requests"), "{{user}}"), stacked=True),
                lines(
                    "Tokens",
                    "short",
                    Query(_top("tokens"), "{{user}}"),
                    stacked=True,
                    about="Tokens per second.",
                ),
                lines("Refused requests", "reqps", Query(_top("refused"), "{{user}}"), stacked=True),
            ],
            "Last day": [
                listing("Requests", "short", f"topk(100, {today['requests']})"),
                listing("Tokens", "short", f"topk(100, {today['tokens']})"),
                listing(
                    "Refused requests",
                    "short",
                    f"topk(100, {today['refused']})",
                    "Over the limits of the key.",
                ),
            ],
        },
    )


def _top(counter: str) -> str:
    return f"topk(10, {rate(f'assist_user_{counter}_total', 'user')})"
