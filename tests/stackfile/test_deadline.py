"""The default deadline: from a measurement where there is one, else from the memory's bandwidth, never too short."""

import pytest

from stackfile import catalogue, deadline
from stackfile.resolve import load_stack
from tests.stackfile.test_stack_files import changed

MISTRAL = "mistral-7b-instruct-Q2_K"


def derived(model: str, device: str, runtime: str, precision: str, **changes) -> deadline.Deadline:
    given = {"max_tokens": 1024, "context_length": 4096, **changes}
    facts = catalogue.models()[model], catalogue.accelerators()[device]
    return deadline.derive(*facts, runtime, precision, **given)


def stack(tmp_path, limits: str = "{}", model: str = MISTRAL, more: str = ""):
    file = tmp_path / "s.yaml"
    file.write_text(f"name: s\ntarget: local\nmodel: {model}\nlimits: {limits}\n{more}")
    return load_stack(file)


def test_a_measured_speed_is_scaled_by_the_bytes_of_the_weights():
    small, large = (
        derived(name, "cpu", "llama_cpp", "Q8_0") for name in ("codegen-350M-mono", "codegen-2B-multi")
    )
    sizes = [
        catalogue.models()[name].memory_gib["Q8_0"] for name in ("codegen-350M-mono", "codegen-2B-multi")
    ]
    assert large.needed_s / small.needed_s == pytest.approx(sizes[1] / sizes[0])
    assert "measured with" in large.derivation


def test_without_a_measurement_the_bandwidth_counts_and_a_faster_device_needs_less():
    t4, a100 = (derived("codegen-6B-multi", name, "ctranslate2", "float16") for name in ("t4", "a100"))
    bandwidths = [catalogue.accelerators()[name].memory_gb_s for name in ("t4", "a100")]
    assert t4.needed_s / a100.needed_s == pytest.approx(bandwidths[1] / bandwidths[0], rel=0.01)
    assert "estimated from" in t4.derivation


def test_the_default_covers_what_is_needed_and_grows_with_the_largest_answer():
    for tokens in (16, 256, 1024, 4096):
        found = derived(MISTRAL, "cpu", "llama_cpp", "Q2_K", max_tokens=tokens, context_length=8192)
        assert found.default_s >= max(30, found.needed_s)
    few, many = (derived(MISTRAL, "cpu", "llama_cpp", "Q2_K", max_tokens=each) for each in (16, 1024))
    assert few.needed_s < many.needed_s


def test_published_times_of_mistral_on_four_cpus_are_within_its_deadline():
    """Answers took 13 to 59 s, and no answer may get less time."""
    assert derived(MISTRAL, "cpu", "llama_cpp", "Q2_K").default_s > 59


def test_a_stack_has_the_derived_deadline_and_lets_requests_finish_at_a_stop(tmp_path):
    found = stack(tmp_path)
    assert found.limits.deadline_s == deadline.of_stack(found).default_s == found.limits.grace_s
    assert deadline.words(found).startswith(f"{found.limits.deadline_s:g} s; 1024 tokens at ")
    assert "set lower" not in deadline.words(found)


def test_a_lower_deadline_is_the_users_choice_and_the_plan_says_so(tmp_path):
    found = stack(tmp_path, "{deadline_s: 20}")
    assert (found.limits.deadline_s, found.limits.grace_s) == (20, 30)
    assert "limits.deadline_s is set lower" in deadline.words(found)


def test_the_engines_wait_is_compared_with_the_derived_deadline(tmp_path):
    assert stack(tmp_path, "{engine_wait_s: 60}").limits.engine_wait_s == 60
    assert any("raise deadline_s" in problem for problem in changed(tmp_path, limits={"engine_wait_s": 30.0}))


@pytest.mark.parametrize("device", catalogue.accelerators())
def test_every_model_has_a_deadline_on_every_accelerator(device):
    for name, model in catalogue.models().items():
        for precision in model.memory_gib:
            assert derived(name, device, "llama_cpp", precision).default_s >= 30
