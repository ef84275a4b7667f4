"""The catalogue holds facts that the project can stand by."""

import hashlib

from stackfile.catalogue import ROOT, accelerators, models


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
