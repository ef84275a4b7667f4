"""The rules of every kind of target: valid, each alert fires where it should and nowhere else."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring import rules
from stackfile.monitoring import FirstToken, MonitoringSection, Objectives
from stackfile.resolve import load_stack
from stackfile.resolved import ResolvedStack
from testing.needs import program

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs/runbooks"
CASES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_name("cases.yaml").read_text("utf-8")
)
STACKS = ("local", "hosts", "kube-local", "gke-prod")


def stack(name: str) -> ResolvedStack:
    return load_stack(ROOT / "stacks" / f"{name}.yaml")


def alerts_of(resolved: ResolvedStack) -> list[dict[str, Any]]:
    return [
        rule for group in rules.rule_file(resolved)["groups"] for rule in group["rules"] if "alert" in rule
    ]


def write(folder: Path, name: str, document: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text(rules.to_yaml(document), encoding="utf-8")
    return path


def test_each_alert_has_cases_that_fire_and_that_do_not():
    assert set(CASES) == rules.alert_names()
    for name, cases in CASES.items():
        assert {case["fires"] for case in cases} == {True, False}, name


def test_each_alert_has_a_runbook_with_the_doctors_fault_and_commands_and_each_runbook_an_alert():
    pages = {
        page.stem: page.read_text("utf-8") for page in RUNBOOKS.glob("[A-Z]*.md") if page.stem != "README"
    }
    assert set(pages) == rules.alert_names()
    for name in STACKS:
        for alert in alerts_of(stack(name)):
            page = pages[alert["alert"]]
            fault = re.search(r"fault (\S+),", alert["annotations"]["doctor"])
            assert fault is not None
            assert f"`{fault[1]}`" in page, (alert["alert"], fault[1])
            assert [line for line in page.splitlines() if line.startswith("## ")] == [
                "## Meaning", "## Causes", "## Check", "## Commands"
            ]  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_every_alert_says_what_is_wrong_and_how_urgent_it_is(name):
    found = alerts_of(stack(name))
    assert len(found) >= 15
    for alert in found:
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["labels"]["stack"] == name
        assert alert["annotations"]["summary"].endswith(".")
        assert "$" not in alert["expr"]


@pytest.mark.parametrize("name", STACKS)
def test_promtool_finds_the_rules_valid_and_every_cause_as_expected(name, tmp_path):
    resolved = stack(name)
    document = rules.rule_file(resolved)
    promtool("check", write(tmp_path, "all.yml", document))
    (causes,) = (group for group in document["groups"] if group["name"].endswith("causes"))
    text = {rule["alert"]: [] for rule in causes["rules"]}
    for rule in causes["rules"]:
        text[rule["alert"]].append(rule["expr"])
    cases = [
        (alert, case) for alert, expressions in text.items() for case in CASES[alert]
        if not case["fires"] or any(each.partition("{")[0] in " ".join(expressions) for each in case["series"])
    ]  # fmt: skip
    assert {alert for alert, case in cases if case["fires"]} == set(text)
    check_cases(tmp_path, name, {"groups": [causes]}, cases, "1m")


@pytest.mark.slow
def test_promtool_finds_every_burnt_budget_as_expected(tmp_path):
    groups = [group for group in rules.rule_file(stack("hosts"))["groups"] if "causes" not in group["name"]]
    cases = [(alert, case) for alert in rules.BUDGETS for case in CASES[alert]]
    check_cases(tmp_path, "hosts", {"groups": groups}, cases, "30m")


def check_cases(
    folder: Path, name: str, document: dict[str, Any], cases: list[tuple[str, dict[str, Any]]], interval: str
) -> None:
    """Run promtool on the rules; ``interval`` is the time between evaluations."""
    write(folder, "rules.yml", document)
    tests = [_test(name, alert, case) for alert, case in cases]
    promtool(
        "test",
        write(
            folder,
            "tests.yml",
            {"rule_files": ["rules.yml"], "evaluation_interval": interval, "tests": tests},
        ),
    )


def promtool(verb: str, file: Path) -> None:
    program("promtool")
    done = subprocess.run(
        ["promtool", verb, "rules", file.name], cwd=file.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _test(name: str, alert: str, case: dict[str, Any]) -> dict[str, Any]:
    series = {each.replace("STACK", name): str(values) for each, values in case["series"].items()}
    severity = case.get("severity", "page|ticket")
    firing = f'ALERTS{{alertname="{alert}", alertstate="firing", severity=~"{severity}"}}'
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"(count({firing}) > bool 0) or vector(0)",
                "eval_time": case["at"],
                "exp_samples": [{"labels": "{}", "value": int(case["fires"])}],
            }
        ],
    }


@pytest.mark.parametrize("bound_ms", FirstToken.__args__)
def test_every_permitted_objective_is_a_bound_of_the_gateways_histogram(bound_ms):
    from gateway.telemetry.latency import SECONDS

    assert bound_ms / 1000 in SECONDS
    objectives = Objectives(first_token_ms=bound_ms)
    resolved = stack("tiny").model_copy(update={"monitoring": MonitoringSection(objectives=objectives)})
    text = rules.to_yaml(rules.rule_file(resolved))
    assert f'le=~"{bound_ms / 1000:g}([.]0)?"' in text
