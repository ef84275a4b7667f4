"""A model that is not free for commercial use is resolved only where the stack accepts its licence, by its exact id."""

from pathlib import Path

import pytest
import yaml

from stackfile import StackFileError, load_stack
from stackfile.catalogue import ModelFacts, models
from stackfile.licence_checks import refusal

CLOSED, FREE, RESTRICTED = (
    "qwen2.5-coder-3b-instruct-Q4_K_M",
    "tiny-codegen",
    "deepseek-coder-1.3b-instruct-Q4_K_M",
)
TARGETS = {
    "local": {},
    "hosts": {},
    "kubernetes": {},
    "gke": {
        "gke": {
            "zones": ["us-central1-a"],
            "deletion_protection": False,
            "endpoint": "dns",
            "cpu_pool": {"machine_type": "n1-standard-8"},
        }
    },
}


def written(folder: Path, target: str, **settings: object) -> Path:
    file = folder / "s.yaml"
    stack = {"name": "s", "target": target, "accelerator": {"kind": "cpu"}, **TARGETS[target], **settings}
    file.write_text(yaml.safe_dump(stack, sort_keys=False))
    return file


def refused(folder: Path, target: str, **settings: object) -> str:
    with pytest.raises(StackFileError) as caught:
        load_stack(written(folder, target, **settings))
    (problem,) = caught.value.problems
    return str(problem)


@pytest.mark.parametrize("target", TARGETS)
def test_without_an_acceptance_no_target_resolves_the_model(tmp_path, target):
    said = refused(tmp_path, target, model=CLOSED)
    assert "model: " in said
    assert "does not allow commercial use" in said
    assert "accept_licence: qwen-research" in said
    assert "qwen2.5-coder-1.5b-instruct-Q4_K_M" in said


@pytest.mark.parametrize("target", TARGETS)
def test_with_the_licence_accepted_every_target_resolves_the_model(tmp_path, target):
    stack = load_stack(written(tmp_path, target, model=CLOSED, accept_licence="qwen-research"))
    assert (stack.model.id, stack.accept_licence) == (CLOSED, "qwen-research")


@pytest.mark.parametrize("accepted", ["Apache-2.0", "Qwen-Research", "qwen-research ", "", "true"])
def test_any_other_id_is_refused_with_the_right_one(tmp_path, accepted):
    said = refused(tmp_path, "local", model=CLOSED, accept_licence=accepted)
    assert f"accept_licence: {accepted!r} is not the licence of {CLOSED}" in said
    assert "give accept_licence: qwen-research" in said


def test_a_licence_that_the_model_does_not_have_cannot_be_accepted(tmp_path):
    said = refused(tmp_path, "local", model=FREE, accept_licence="qwen-research")
    assert "which is PSF-2.0; leave it out" in said


@pytest.mark.parametrize(("model", "licence"), [(FREE, "PSF-2.0"), (RESTRICTED, "deepseek-model-license")])
def test_the_licence_of_a_model_for_commercial_use_may_be_accepted_and_need_not(tmp_path, model, licence):
    for settings in ({}, {"accept_licence": licence}):
        assert load_stack(written(tmp_path, "local", model=model, **settings)).model.id == model


def test_a_model_of_an_engine_that_is_elsewhere_is_gated_too(tmp_path):
    engine = {"kind": "openai", "url": "http://127.0.0.1:8080/v1"}
    assert "accept_licence" in refused(tmp_path, "local", model=CLOSED, engine=engine)


def test_another_revision_does_not_lift_the_gate(tmp_path):
    assert "accept_licence" in refused(tmp_path, "local", model=CLOSED, revision="main")


def test_an_entry_cannot_leave_out_whether_it_is_for_commercial_use():
    facts = models()[FREE].model_dump(mode="json", exclude={"commercial"})
    with pytest.raises(ValueError, match="commercial"):
        ModelFacts.model_validate(facts)


def test_a_refusal_offers_no_model_where_none_is_alike():
    odd = models()[CLOSED].model_copy(update={"parameters": 10**12})
    assert str(refusal("m", odd, None, "accept_licence: ")).endswith("free for commercial use")
