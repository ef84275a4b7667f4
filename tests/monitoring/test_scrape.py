"""The scrape configurations: every process of a stack, with the labels that the rules read."""

import subprocess
from pathlib import Path

import pytest

from assist.hosts.inventory import Inventory
from assist.hosts.network import targets
from monitoring import rules, scrape
from stackfile.resolve import load_stack
from testing.needs import program

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Inventory(
    {"gateway": ["web1", "web2"], "gpu": ["gpu1"], "queue": ["web1"]},
    {"web1": "10.0.0.1", "web2": "10.0.0.2", "gpu1": "fd00::3"},
)


def stack(name: str):
    return load_stack(ROOT / "stacks" / f"{name}.yaml")


def test_the_hosts_file_has_every_process_of_every_host():
    found = targets(stack("hosts"), INVENTORY)
    assert {(each.job, each.host) for each in found} == {
        ("gateway", "web1"), ("gateway", "web2"), ("triton", "gpu1"), ("worker", "gpu1"),
        ("node", "web1"), ("node", "web2"), ("node", "gpu1"),
    }  # fmt: skip
    gateways = [each.address for each in found if each.job == "gateway"]
    assert gateways == ["10.0.0.1:8082", "10.0.0.1:8083", "10.0.0.2:8082", "10.0.0.2:8083"]
    assert "[fd00::3]:8002" in {each.address for each in found}


def test_an_openai_server_is_scraped_beside_its_api():
    found = stack("tiny")
    engine = found.engine.model_copy(update={"kind": "openai", "url": "http://127.0.0.1:8080/v1"})
    found = found.model_copy(update={"engine": engine})
    assert scrape.Target("engine", "127.0.0.1:8080") in scrape.local_targets(found)
    assert "triton" not in {each.job for each in scrape.local_targets(found)}


@pytest.mark.parametrize("name", ["local", "hosts"])
def test_promtool_accepts_the_configuration(name, tmp_path):
    program("promtool")
    found = stack(name)
    listed = targets(found, INVENTORY) if name == "hosts" else scrape.local_targets(found)
    (tmp_path / "rules.yml").write_text(rules.to_yaml(rules.rule_file(found)))
    document = scrape.configuration(found, listed, ["rules.yml"])
    (tmp_path / "prometheus.yml").write_text(rules.to_yaml(document))
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_target_has_the_stack_and_its_job_as_the_rules_read_them():
    for entry in scrape.scrape_configs(stack("hosts"), targets(stack("hosts"), INVENTORY)):
        assert entry["relabel_configs"] == [
            {"target_label": "job", "replacement": entry["job_name"].removeprefix("hosts-")}
        ]
        assert {each["labels"]["stack"] for each in entry["static_configs"]} == {"hosts"}
