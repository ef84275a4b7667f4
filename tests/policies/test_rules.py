"""Every rule refuses what it must, lets pass what it may, and holds for what we ship."""

from pathlib import Path

import pytest
import yaml

from policies.rules import RULES, STACK_RULES, Resource
from stackfile.catalogue import ROOT
from tests.policies.examples import FAILING, PASSING, Example

STACK = "gke-prod"
FOLDERS = sorted({file.parent for file in (ROOT / "manifests").rglob("kustomization.yaml")})
# Advice that what we ship does not follow, each with the reason.
OPEN_ADVICE = {
    "image-by-digest": "a digest exists only once a site has pushed its images; kustomize pins them"
}


def resources(examples: list[Example]) -> list[Resource]:
    return [Resource(token, name, STACK, props) for token, name, props in examples]


def findings(name: str, given: list[Resource]) -> list[str]:
    single = [rule for rule in RULES if rule.name == name]
    whole = [rule for rule in STACK_RULES if rule.name == name]
    found = [text for rule in single for resource in given for text in rule.check(resource)]
    return found + [text for rule in whole for text in rule.check(given)]


def manifest(file: Path) -> Resource:
    document = yaml.safe_load(file.read_text())
    group = document["apiVersion"] if "/" in document["apiVersion"] else f"core/{document['apiVersion']}"
    return Resource(f"kubernetes:{group}:{document['kind']}", document["metadata"]["name"], "prod", document)


def test_every_rule_has_a_failing_and_a_passing_example():
    names = {rule.name for rule in (*RULES, *STACK_RULES)}
    assert set(FAILING) == set(PASSING) == names


@pytest.mark.parametrize("name", FAILING)
def test_a_rule_refuses_its_failing_example_with_a_remedy(name):
    found = findings(name, resources(FAILING[name]))
    assert found
    assert all(":" in text for text in found), "a finding says what to do after a colon"


@pytest.mark.parametrize("example", [e for r in RULES for e in FAILING[r.name]], ids=lambda e: e[1])
def test_each_failing_example_alone_is_refused(example):
    (name,) = [rule for rule, examples in FAILING.items() if any(e is example for e in examples)]
    assert findings(name, resources([example]))


@pytest.mark.parametrize("name", PASSING)
def test_a_rule_lets_its_passing_example_pass(name):
    assert findings(name, resources(PASSING[name])) == []


def test_protection_is_asked_of_production_alone():
    ((token, name, props),) = FAILING["production-is-protected"]
    (rule,) = [rule for rule in RULES if rule.name == "production-is-protected"]
    assert not list(rule.check(Resource(token, name, "gke-dev", props)))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT / "manifests")))
def test_the_manifests_keep_every_rule(folder):
    given = [manifest(file) for file in sorted(folder.glob("[0-9]*.yaml"))]
    assert len(given) > 10
    broken = {rule.name: findings(rule.name, given) for rule in (*RULES, *STACK_RULES)}
    assert {name for name, found in broken.items() if found} == set(OPEN_ADVICE)
