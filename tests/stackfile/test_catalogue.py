"""The catalogue holds facts that the project can stand by."""

import hashlib
import re
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from stackfile import runtime_selection
from stackfile.catalogue import ROOT, ModelFacts, accelerators, models, unknown_model

# Bits of a weight in a file that nobody has measured; such files mix several types.
BITS = {"Q2_K": 3.4, "Q4_K_M": 4.9, "Q8_0": 8.5}
RESTRICTED = {"qwen-research", "deepseek-model-license", "bigcode-openrail-m"}


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("codegen", {"350M", "2B", "6B"}),
        ("qwen2.5-coder", {"0.5b", "1.5b", "3b", "7b", "14b"}),
        ("mistral", {"7b"}),
        ("starcoder2", {"3b"}),
        ("deepseek-coder", {"1.3b", "6.7b"}),
        ("granite", {"4.0", "3b"}),
        ("mellum", {"4b"}),
        ("seed-coder", {"8b"}),
        ("smollm2", {"135m", "360m", "1.7b"}),
        ("qwen3", {"0.6b", "1.7b"}),
    ],
)
def test_every_family_has_its_sizes(family, sizes):
    assert sizes <= {name.removeprefix(f"{family}-").split("-")[0] for name in models() if family in name}


def test_the_accelerators_of_the_design_are_known():
    assert {"cpu", "t4", "k80", "l4", "a100", "rtx-3080", "rtx-3060", "rtx-4090"} <= set(accelerators())


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


def test_the_memory_of_a_gguf_file_is_its_size_known_or_estimated():
    for name, facts in models().items():
        if facts.format == "gguf":
            ((precision, gib),) = facts.memory_gib.items()
            if facts.pinned:
                expected = sum(file.size for file in facts.files) / 2**30
            else:
                expected = facts.parameters * BITS[precision] / 8 / 2**30
            assert gib == pytest.approx(expected, rel=0.01), name


def test_no_two_files_have_one_checksum():
    sums = Counter(file.sha256 for facts in models().values() for file in facts.files if file.sha256)
    assert set(sums.values()) == {1}


def test_a_pinned_file_has_size_checksum_and_the_source_of_both_and_an_unpinned_one_says_what_to_do():
    for name, facts in models().items():
        assert all((file.size is None) == (file.sha256 is None) for file in facts.files), name
        assert (facts.origin.pin is not None) == facts.pinned, name
        assert facts.pinned or "assist models pin" in facts.note, name


def test_every_model_declares_the_tokens_that_end_its_text():
    assert all(facts.stop for facts in models().values())


def test_qwen_coder_3b_alone_of_its_family_is_not_for_commercial_use():
    family = {name: facts for name, facts in models().items() if name.startswith("qwen2.5-coder")}
    closed = {name for name in models() if not models()[name].commercial}
    assert closed == {name for name in family if "-3b-" in name} != set()
    assert {facts.licence for name, facts in family.items() if name not in closed} == {"Apache-2.0"}


def test_a_licence_says_the_same_of_every_model_and_names_its_restrictions():
    terms = {(facts.licence, facts.commercial, facts.restrictions) for facts in models().values()}
    assert len({licence for licence, *_ in terms}) == len(terms)
    assert {licence for licence, _, restrictions in terms if restrictions} == RESTRICTED
    assert all(restrictions for _, commercial, restrictions in terms if not commercial)


def test_the_weights_of_starcoder_and_deepseek_are_not_under_an_open_source_licence():
    for name, facts in models().items():
        if name.startswith(("starcoder2", "deepseek")):
            assert facts.licence in RESTRICTED, name
            assert facts.commercial, name


def test_each_model_can_be_served_by_a_runtime():
    for name, facts in models().items():
        if facts.format == "gguf":
            assert runtime_selection.unreadable(facts.architecture, facts.memory_gib) is None, name
        else:
            assert runtime_selection.converters(facts.architecture), name


def test_a_model_with_a_fill_in_the_middle_template_declares_its_sentinels_as_stops():
    for facts in models().values():
        if facts.fim:
            assert "{prefix}" in facts.fim.template
            assert "{suffix}" in facts.fim.template
            sentinels = re.findall(r"<[^>]+>", facts.fim.template)
            assert len(sentinels) == 3
            assert {*sentinels, *facts.stop} <= {*facts.fim.stop}


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


def test_an_unknown_model_is_answered_with_the_nearest_ones_and_not_with_all():
    entries = models()
    assert "did you mean 'tiny-codegen'?" in unknown_model("tiny-codgen", entries)
    said = unknown_model("gpt-9", entries)
    named = [name for name in entries if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", said)]
    assert len(named) == 3
    assert all(entries[name].pinned for name in named)
    assert "`assist models list`" in said
