"""The objectives as rules: recorded error ratios, and alerts on how fast the error budget is used up.

Windows and factors are those of Google's SRE workbook ("Alerting on SLOs", multiwindow, multi-burn-rate).
"""

from dataclasses import dataclass
from typing import Any

from stackfile.monitoring import Objectives

GOOD = "ok|expired"
BAD = "overloaded|unavailable|timeout|error"
# A small team's night has few requests: fewer failures than this wake nobody.
_LEAST_FAILURES = 5
_DURATION = "gen_ai_server_request_duration_seconds_count"
_FIRST = "gen_ai_server_time_to_first_token_seconds"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True)
class BurnRate:
    """Both windows must burn ``factor`` times as fast as the budget of 30 days lasts."""

    long: str
    short: str
    factor: float
    severity: str


BURN_RATES = (
    BurnRate("1h", "5m", 14.4, "page"),
    BurnRate("6h", "30m", 6, "page"),
    BurnRate("1d", "2h", 3, "ticket"),
    BurnRate("3d", "6h", 1, "ticket"),
)


@dataclass(frozen=True)
class Indicator:
    """One objective: its alert, the name of its recorded ratio, and both counts for a window.

    ``budget`` is the permitted share of ``bad``, from 0 to 1. The expressions have ``{window}`` in them.
    """

    alert: str
    record: str
    bad: str
    total: str
    budget: float
    fault: str
    summary: str

    def ratio(self, window: str) -> str:
        """Return the expression for the share of bad requests in ``window``; nothing without requests."""
        bad, total = (each.format(window=window) for each in (self.bad, self.total))
        return f"({bad} or 0 * {total}) / ({total} > 0)"


def indicators(stack: str, objectives: Objectives) -> tuple[Indicator, Indicator]:
    """Return the availability and the first-token latency of ``stack``."""
    bound = objectives.first_token_ms / 1000
    le = f'le=~"{bound:g}([.]0)?"'  # servers write 1 or 1.0
    availability = Indicator(
        "AvailabilityBudgetBurn",
        "stack:assist_request_errors:ratio_rate",
        _rate(_DURATION, f'stack="{stack}", outcome=~"{BAD}"'),
        _rate(_DURATION, f'stack="{stack}", outcome=~"{GOOD}|{BAD}"'),
        round(1 - objectives.availability_percent / 100, 6),
        "completion-fails",
        "Of the requests, {{ $value | humanizePercentage }} fail.",
    )
    every = _rate(f"{_FIRST}_count", f'stack="{stack}"')
    quick = _rate(f"{_FIRST}_bucket", f'stack="{stack}", {le}')
    first_token = Indicator(
        "FirstTokenBudgetBurn",
        "stack:assist_first_token_slow:ratio_rate",
        f"({every} - {quick})",
        every,
        round(1 - objectives.first_token_percent / 100, 6),
        "answers-slow",
        f"Of the streams, {{{{ $value | humanizePercentage }}}} take over {bound:g} s to their first token.",
    )
    return availability, first_token


def _rate(metric: str, labels: str) -> str:
    return f"sum by (stack) (rate({metric}{{{{{labels}}}}}[{{window}}]))"


def recording_rules(indicator: Indicator) -> list[dict[str, Any]]:
    """Return one rule for each window."""
    return [{"record": f"{indicator.record}{each}", "expr": indicator.ratio(each)} for each in WINDOWS]


def alerts(indicator: Indicator) -> list[dict[str, Any]]:
    """Return one alert for each pair of windows, without labels and annotations of the stack."""
    return [_alert(indicator, burn) for burn in BURN_RATES]


def _alert(indicator: Indicator, burn: BurnRate) -> dict[str, Any]:
    threshold = round(min(burn.factor * indicator.budget, 0.99), 6)
    failures = f"{indicator.bad.format(window=burn.long)} * {_seconds(burn.long)} >= {_LEAST_FAILURES}"
    return {
        "alert": indicator.alert,
        "expr": (
            f"{indicator.record}{burn.long} > {threshold} and {indicator.record}{burn.short} > {threshold} "
            f"and {failures}"
        ),
        "for": "2m",
        "severity": burn.severity,
        "fault": indicator.fault,
        "summary": f"{indicator.summary} The budget of 30 days lasts {30 / burn.factor:.2g} days so.",
        "window": burn.long,
    }


def _seconds(window: str) -> int:
    return int(window[:-1]) * {"m": 60, "h": 3600, "d": 86400}[window[-1]]
