"""A real Prometheus on the real service: every metric and label of every rule exists, and nothing alerts."""

import re
from pathlib import Path
from typing import Any

import pytest

from monitoring import rules
from stackfile.resolved import ResolvedStack
from testing.until import until
from tests.monitoring.committed import LABEL, SELECTOR

pytestmark = [pytest.mark.triton, pytest.mark.redis]


def selectors(stack: ResolvedStack) -> set[str]:
    """Return every metric of the rules with every label that they read, as a query that needs both."""
    found = set()
    for group in rules.rule_file(stack)["groups"]:
        for rule in group["rules"]:
            for metric, labels in SELECTOR.findall(rule["expr"]):
                names = sorted(set(LABEL.findall(re.sub(r'"[^"]*"', '""', labels))))
                wanted = (
                    [f'job="{job}"' for job in re.findall(r'job="(\w+)"', labels)] if metric == "up" else []
                )
                wanted += [f'{name}=~".+"' for name in names if not (metric == "up" and name == "job")]
                found.add(f"{metric}{{{', '.join(wanted)}}}")
    return found


def test_every_metric_and_label_of_every_rule_is_in_the_scrape_and_nothing_alerts(live):
    wanted = selectors(live.stack) - {each for each in selectors(live.stack) if 'job="worker"' in each}
    assert len(wanted) >= 12

    def unknown() -> list[str]:
        live.load()
        return [selector for selector in sorted(wanted) if not live.value(f"count({selector})")]

    until(lambda: unknown() == [], evidence=unknown)

    def recorded() -> bool:
        live.load()
        return bool(live.value('stack:assist_request_errors:ratio_rate5m{stack="tiny"}')) and bool(
            live.value('stack:assist_first_token_slow:ratio_rate5m{stack="tiny"}')
        )

    until(recorded)
    assert float(live.value('assist_engine_load_seconds{stack="tiny"}')[0]["value"][1]) > 0
    assert live.value('process_resident_memory_bytes{stack="tiny", job="gateway"}')
    evaluated = [rule for group in live.api("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == sum(len(group["rules"]) for group in rules.rule_file(live.stack)["groups"])
    until(lambda: all(each["health"] != "unknown" for each in live.api("rules")["groups"][0]["rules"]))
    assert [rule for rule in evaluated if rule.get("lastError")] == []
    assert live.api("alerts")["alerts"] == []
    assert live.value('stack:assist_request_errors:ratio_rate5m{stack="tiny"}')[0]["value"][1] == "0"


def test_a_stopped_gateway_and_a_damaged_key_file_are_seen(live):
    keys = Path(live.gateway.environment["ASSIST_KEYS_FILE"])
    good = keys.read_text()
    until(lambda: live.value('assist_keys_readable{stack="tiny"} == 1'))
    keys.write_text("{")
    until(lambda: any(alert["labels"]["alertname"] == "KeyFileUnreadable" for alert in alerts(live)))
    keys.write_text(good)
    until(lambda: alerts(live) == [])
    live.gateway.kill()
    until(lambda: any(alert["labels"]["alertname"] == "GatewayDown" for alert in alerts(live)))


def alerts(live) -> list[dict[str, Any]]:
    """Return the alerts that wait for their time or fire."""
    return live.api("alerts")["alerts"]


def test_exemplars_lead_from_the_latency_to_the_request(live):
    live.load()
    query = 'gen_ai_server_request_duration_seconds_bucket{stack="tiny"}'

    def exemplars() -> list[Any]:
        live.load()
        return live.api("query_exemplars", query=query, start="0", end="99999999999")

    until(exemplars)
    labels = exemplars()[0]["exemplars"][0]["labels"]
    assert len(labels["request_id"]) == 32
