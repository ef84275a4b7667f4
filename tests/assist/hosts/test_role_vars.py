"""The variables of the roles with target hosts, for one host and for three."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from assist.hosts.inventory import Inventory, InventoryError
from assist.hosts.role_vars import resolve
from stackfile import StackFileError, load_stack
from stackfile.catalogue import ROOT, ModelFacts

ROLES = ROOT / "ansible/roles"
ONE = Inventory({"gateway": ["a"], "gpu": ["a"], "queue": ["a"]}, {"a": "10.0.0.1"})
THREE = Inventory(
    {"gateway": ["w"], "gpu": ["g1", "g2"], "queue": ["w"]},
    {"w": "10.0.0.1", "g1": "10.0.0.2", "g2": "10.0.0.3"},
)
# Each role, its entry point, the variable with the Service's part, and where that part is in the document.
PARTS = [
    ("preflight", "host", "preflight_service", "preflight"),
    ("base", "main", "base_service", "base"),
    ("firewall", "main", "firewall_service", "firewall"),
    ("release", "main", "release_service", "release"),
    ("redis", "main", "redis_service", "redis"),
    ("model_store", "host", "model_store_service", "model_store"),
    ("triton", "host", "triton_service", "triton_server"),
    ("gateway", "host", "gateway_service", "gateway_server"),
    ("queue_worker", "main", "queue_worker_service", "queue_worker"),
    ("nginx", "main", "nginx_service", "nginx"),
    ("verify", "host", "verify_service", "verify"),
]
TYPES = {"str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}


def facts(inventory: Inventory, host: str, stack: str = "hosts") -> dict:
    return resolve(stack, inventory, host, "0123456789ab").facts()


def changed(tmp_path: Path, **settings: object) -> str:
    stack = yaml.safe_load((ROOT / "stacks/hosts.yaml").read_text()) | settings
    file = tmp_path / "hosts.yaml"
    file.write_text(yaml.safe_dump(stack))
    return str(file)


def compare(options: dict, value: dict, where: str) -> None:
    """Every field that a role is given stands in its argument_specs with its type, and no other."""
    assert set(options) == set(value), where
    for name, option in options.items():
        given = value[name]
        assert isinstance(given, TYPES[option["type"]]), f"{where}.{name}: {given!r} is no {option['type']}"
        assert option.get("required"), f"{where}.{name} has a default, which Ansible does not set"
        if "options" in option:
            for inner in given if option["type"] == "list" else [given]:
                compare(option["options"], inner, f"{where}.{name}")


@pytest.mark.parametrize(("role", "entry", "variable", "part"), PARTS, ids=[part[0] for part in PARTS])
def test_a_roles_argument_specs_are_what_the_document_gives_it(role, entry, variable, part):
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    options = specs[entry]["options"][variable]["options"]
    for inventory, host in ((ONE, "a"), (THREE, "w"), (THREE, "g1")):
        compare(options, facts(inventory, host)[part], role)


def test_the_roles_take_every_format_of_a_model():
    formats = set(get_args(ModelFacts.model_fields["format"].annotation))
    found = {
        file.parent.parent.name: set(choices)
        for file in ROLES.glob("*/meta/argument_specs.yml")
        for choices in _choices(yaml.safe_load(file.read_text()), "format")
    }
    assert found
    assert set(map(frozenset, found.values())) == {frozenset(formats)}


def _choices(value: object, name: str) -> Iterator[list[str]]:
    """Yield the choices of every option of this name."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key == name and isinstance(inner, dict) and "choices" in inner:
            yield inner["choices"]
        yield from _choices(inner, name)


@pytest.mark.parametrize(
    ("role", "entry", "variable", "option", "field"),
    [
        ("nginx", "main", "nginx_service", "certificate", "hosts.front.certificate"),
        ("gateway", "host", "gateway_service", "auth", "auth.mode"),
        ("verify", "host", "verify_service", "auth", "auth.mode"),
    ],
)
def test_choices_of_a_role_are_those_of_the_specs_schema(role, entry, variable, option, field):
    schema = type(load_stack(ROOT / "stacks/hosts.yaml")).model_json_schema()
    node: dict = schema
    for name in field.split("."):
        node = node["properties"][name]
        reference = node.get("$ref") or next(
            (one["$ref"] for one in node.get("anyOf", []) if "$ref" in one), None
        )
        node = schema["$defs"][reference.rsplit("/", 1)[-1]] if reference else node
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text())["argument_specs"]
    assert specs[entry]["options"][variable]["options"][option]["choices"] == node["enum"]


def test_on_one_host_everything_but_nginx_stays_on_loopback():
    told = facts(ONE, "a")
    assert told["gateway_server"]["environment"]["ASSIST_HOST"] == "127.0.0.1"
    assert told["triton_server"]["listen"] == "127.0.0.1"
    assert told["redis"]["listen"] == ["127.0.0.1"]
    assert {rule["port"] for rule in told["firewall"]["rules"]} >= {22, 443}
    assert not {5000, 6379, 6380, 8001} & {rule["port"] for rule in told["firewall"]["rules"]}


def test_on_three_hosts_each_port_is_open_to_its_users_alone():
    rules = {rule["port"]: rule["ipv4"] for rule in facts(THREE, "w")["firewall"]["rules"]}
    assert rules[6380] == ["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"]
    assert rules[6379] == rules[5000] == ["10.0.0.1/32"]
    rules = {rule["port"]: rule["ipv4"] for rule in facts(THREE, "g1")["firewall"]["rules"]}
    assert rules[8001] == ["10.0.0.1/32"]
    assert not {443, 6379, 6380, 8000, 8002} & set(rules)


def test_a_gateway_balances_over_all_tritons_and_a_worker_uses_its_own():
    engine = "ASSIST_ENGINE_URL"
    gateway = facts(THREE, "w")["gateway_server"]["environment"]
    assert gateway[engine] == "ipv4:10.0.0.2:8001,10.0.0.3:8001"
    assert facts(THREE, "g2")["queue_worker"]["environment"][engine] == "10.0.0.3:8001"


def test_a_host_gets_the_environments_users_and_packages_of_its_groups_alone():
    web, gpu = facts(THREE, "w"), facts(THREE, "g1")
    assert set(web["release"]["locks"]) == {"gateway"}
    assert set(gpu["release"]["locks"]) == {"gateway", "serving"}
    assert {"nginx", "redis-server"} <= set(web["base"]["packages"])
    assert not {"nginx", "redis-server"} & set(gpu["base"]["packages"])
    assert "assist-triton" not in web["base"]["users"]


@pytest.mark.parametrize(
    ("accelerator", "wanted"),
    [
        ("cpu", ["serving.txt", "triton.txt"]),
        ("t4", ["serving.txt", "triton.txt", "cuda12.txt"]),
        ("k80", ["k80.txt", "triton.txt"]),
    ],
)
def test_a_gpu_host_gets_the_runtime_that_has_code_for_its_gpu_and_cublas(tmp_path, accelerator, wanted):
    stack = changed(tmp_path, accelerator={"kind": accelerator}, precision="float32")
    assert facts(THREE, "g1", stack)["release"]["locks"]["serving"] == wanted


def test_a_k80s_lock_file_differs_from_the_others_in_ctranslate2_alone():
    serving, k80 = (
        set(re.findall(r"^([\w.-]+==\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.MULTILINE))
        for name in ("serving", "k80")
    )
    assert {name.partition("==")[0] for name in serving ^ k80} == {
        "ctranslate2",
        "nvidia-cublas-cu11",
        "setuptools",
    }
    assert "ctranslate2==3.24.0" in k80


def test_settings_of_the_stack_reach_the_role_that_they_are_for(tmp_path):
    hosts = {
        "front": {"https_port": 8443, "requests_per_second": 7},
        "redis": {"cache_port": 7001, "queue_port": 7002, "cache_mib": 99},
        "gateway": {"instances": 3, "memory_mib": 2048},
        "folders": {"models": "/srv/fast/models"},
        "firewall": {"clients": ["10.1.0.0/16"], "monitoring": ["10.2.0.0/16"]},
    }
    told = facts(THREE, "w", changed(tmp_path, hosts=hosts, limits={"max_body_bytes": 2_000_000}))
    assert told["nginx"]["max_body_bytes"] == 2_000_000
    assert told["nginx"]["deadline_s"] == told["gateway_server"]["grace_s"] == 30
    assert told["nginx"]["upstreams"] == ["10.0.0.1:5000", "10.0.0.1:5001", "10.0.0.1:5002"]
    assert told["model_store"]["dir"].startswith("/srv/fast/models/tiny-codegen/")
    assert ":7001/" in told["gateway_server"]["redis_cache"]
    assert ":7002/" in told["gateway_server"]["redis_jobs"]
    rules = {rule["port"]: rule["ipv4"] for rule in told["firewall"]["rules"]}
    assert rules[8443] == ["10.1.0.0/16"]
    assert rules[8084] == ["10.2.0.0/16"]


def test_each_gpus_worker_has_a_metrics_port_of_its_own_that_monitoring_reaches(tmp_path):
    accelerator = {"kind": "t4", "count": 2, "split": "replicate"}
    stack = changed(tmp_path, accelerator=accelerator, hosts={"firewall": {"monitoring": ["10.2.0.0/16"]}})
    rules = [
        rule for rule in facts(THREE, "g1", stack)["firewall"]["rules"] if rule["ipv4"] == ["10.2.0.0/16"]
    ]
    assert {8090, 8091} <= {rule["port"] for rule in rules}


@pytest.mark.parametrize(
    ("groups", "addresses", "said"),
    [
        ({"gateway": ["a"], "gpu": [], "queue": ["a"]}, {"a": "10.0.0.1"}, "group gpu has no host"),
        ({"gateway": ["a"], "gpu": ["a"], "queue": ["a", "b"]}, {"a": "10.0.0.1"}, "keep one host"),
        (
            {"gateway": ["a"], "gpu": ["a"], "queue": ["a"]},
            {"a": "web.example"},
            "set service_address to the host's address",
        ),
    ],
)
def test_an_inventory_that_cannot_work_is_refused_with_the_remedy(groups, addresses, said):
    with pytest.raises(InventoryError, match=said):
        resolve("hosts", Inventory(groups, addresses), "a", "0")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hosts": {"front": {"https_port": 5001}}}, "another port"),
        ({"hosts": {"firewall": {"clients": ["10.0.0.1/8"]}}}, "not an address range"),
        ({"hosts": {"folders": {"models": "/srv/../etc"}}}, "write the folder's plain path"),
        ({"triton": {"host": "10.0.0.1"}}, "comes from the inventory"),
        ({"target": "local"}, "remove it"),
        ({"auth": {"mode": "none"}}, "set keys or gitlab"),
    ],
)
def test_a_stack_that_cannot_work_on_hosts_is_refused_with_the_remedy(tmp_path, settings, said):
    with pytest.raises(StackFileError, match=said):
        facts(ONE, "a", changed(tmp_path, **settings))


def test_no_fact_of_a_host_holds_a_secret():
    addresses = re.findall(r"redis://([^@]*)@", json.dumps(facts(THREE, "w")))
    assert set(addresses) == {"gateway:PASSWORD", "jobs:PASSWORD"}


def test_nginx_gets_ipv6_gateways_in_brackets():
    addresses = {"w": "2001:db8::1", "g1": "2001:db8::2", "g2": "2001:db8::3"}
    upstreams = facts(Inventory(THREE.groups, addresses), "w")["nginx"]["upstreams"]
    assert upstreams == ["[2001:db8::1]:5000", "[2001:db8::1]:5001"]
