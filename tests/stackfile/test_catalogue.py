"""The catalogue holds facts that the project can stand by."""

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from stackfile.catalogue import ROOT, ModelFacts, accelerators, models


def test_the_models_and_accelerators_of_the_design_are_known():
    assert set(models()) >= {
        "tiny-codegen",
        "codegen-350M-mono",
        "codegen-2B-multi",
        "codegen-6B-multi",
        "qwen2.5-coder-1.5b",
        "mistral-7b-instruct-Q2_K",
        "mistral-7b-instruct-Q4_K_M",
    }
    assert set(accelerators()) == {"cpu", "t4", "k80", "l4", "a100"}


def test_the_model_in_the_repository_is_pinned_to_the_bytes_that_are_there():
    facts = models()["tiny-codegen"]
    for file in facts.files:
        content = (ROOT / str(facts.path) / file.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)


def test_memory_per_precision_agrees_with_the_number_of_parameters():
    width = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "int8_float16": 1}
    for name, facts in models().items():
        for precision, gib in facts.memory_gib.items():
            if precision in width:
                expected = facts.parameters * width[precision] / 2**30
                assert abs(gib - expected) <= max(0.01 * expected, 0.006), (name, precision)


def test_a_model_with_a_fill_in_the_middle_template_declares_its_sentinels_as_stops():
    for facts in models().values():
        if facts.fim:
            assert "{prefix}" in facts.fim.template
            assert "{suffix}" in facts.fim.template
            assert facts.fim.stop


def test_every_gpu_has_its_driver_and_compute_capability():
    for name, facts in accelerators().items():
        assert facts.is_gpu == (name != "cpu")
        assert (facts.driver is not None) == facts.is_gpu


PART = {"index": "demo-part1==1.0", "path": "demo/p.bin", "sha256": "a" * 64}
FILE = {"path": "demo.gguf", "size": 1, "sha256": "b" * 64}


def model(**changes: Any) -> ModelFacts:
    facts = models()["tiny-codegen"].model_dump(mode="json", exclude={"path"})
    return ModelFacts.model_validate_json(
        ModelFacts.model_construct(**(facts | {"files": [FILE]} | changes)).model_dump_json(warnings=False)
    )


def test_sources_are_tried_in_their_order_and_a_repository_is_the_hub_alone():
    sources = [{"mirror": "s3://b/f"}, {"hub": "o/m", "revision": "r"}, {"index": {"demo.gguf": [PART]}}]
    places = model(sources=sources).places
    assert [bool(place.mirror) for place in places] == [True, False, False]
    assert places[2].index is not None
    assert [place.hub for place in model(repository="o/m").places] == ["o/m"]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, "exactly one of repository"),
        ({"repository": "o/m", "sources": [{"hub": "o/m"}]}, "exactly one of repository"),
        ({"sources": [{"hub": "o/m", "mirror": "https://m/f"}]}, "exactly one of hub"),
        ({"sources": [{"mirror": "https://m/f", "revision": "r"}]}, "revision belongs to a hub"),
        ({"sources": [{"mirror": "https://user:pass@m/f"}]}, "mirror"),
        ({"sources": [{"mirror": "http://m/f"}]}, "mirror"),
        ({"sources": [{"index": {"other.gguf": [PART]}}]}, "every file"),
        ({"sources": [{"index": {"demo.gguf": []}}]}, "at least 1"),
        ({"sources": [{"index": {"demo.gguf": [PART | {"index": "demo"}]}}]}, "index"),
        (
            {"sources": [{"index": {"demo.gguf": [PART]}}], "files": [{"path": "demo.gguf"}]},
            "size and sha256",
        ),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(changes: dict[str, Any], cause: str):
    with pytest.raises(ValidationError, match=cause):
        model(**changes)


def test_the_models_on_the_package_index_are_asked_there_last():
    for name in ("qwen2.5-coder-0.5b-instruct-Q4_K_M", "qwen2.5-coder-1.5b-instruct-Q4_K_M"):
        facts = models()[name]
        assert [bool(place.hub) for place in facts.places] == [True, False]
        assert facts.pinned
    assert [bool(place.index) for place in models()["smollm2-135m-instruct-Q4_1"].places] == [True]
