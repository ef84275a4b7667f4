"""The pack through the real engine: `pulumi preview --policy-pack`."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from policies.rules import RULES, STACK_RULES
from stackfile.catalogue import ROOT
from testing import needs
from testing.gcp.double import Double
from tests.policies.examples import FAILING, PASSING, Example

PACK_PYTHON = ROOT / ".run/venvs/policies/bin/python"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.gcp,
    pytest.mark.skipif(
        not PACK_PYTHON.exists(), reason=needs.reason("the pack's environment is missing", needs.PACKAGES)
    ),
]


@pytest.fixture(autouse=True)
def _tools() -> None:
    needs.program("pulumi", "pulumi-resource-kubernetes", "pulumi-language-python")


def preview(
    folder: Path, examples: list[Example], *arguments: str, stack: str = "gke-prod"
) -> subprocess.CompletedProcess[str]:
    program, state = folder / "program", folder / "state"
    folder.mkdir(exist_ok=True)
    shutil.copytree(Path(__file__).parent / "program", program)
    (program / "environment").symlink_to(sys.prefix)
    unique = {f"{token}::{name}": (token, name, props) for token, name, props in examples}
    (program / "examples.json").write_text(json.dumps(list(unique.values())))
    state.mkdir()
    # A preview of new resources: Google's part is the project's own provider.
    environment = Double(folder).environment | {
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def pulumi(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["pulumi", *words, "--non-interactive"]
        return subprocess.run(
            command, cwd=program, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    assert pulumi("stack", "init", stack).returncode == 0
    return pulumi("preview", "--policy-pack", str(ROOT / "policies"), "--stack", stack, *arguments)


def reported(output: str) -> set[str]:
    """Return the rules that the engine says were broken."""
    return set(re.findall(r"\[(?:mandatory|advisory)\]\s+([a-z-]+)", output))


def test_every_rule_reports_its_failing_example_and_the_preview_is_refused(tmp_path):
    examples = [example for examples in FAILING.values() for example in examples]
    # Only their own examples may satisfy these two, so their counterparts stay out.
    examples = [e for e in examples if e[1] not in {"budget", "deny"}]
    refused = preview(tmp_path, examples)
    assert refused.returncode != 0
    assert reported(refused.stdout) == {rule.name for rule in (*RULES, *STACK_RULES)}, refused.stderr


def test_the_passing_examples_pass_together(tmp_path):
    passed = preview(tmp_path, [example for examples in PASSING.values() for example in examples])
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert reported(passed.stdout) == set()


def test_production_refuses_what_elsewhere_is_advice(tmp_path):
    tagged = [*FAILING["image-by-digest"], *PASSING["has-disruption-budget"], *PASSING["denies-by-default"]]
    advised = preview(tmp_path / "a", tagged)
    assert advised.returncode == 0, advised.stdout + advised.stderr
    assert reported(advised.stdout) == {"image-by-digest"}
    strict = ("--policy-pack-config", str(ROOT / "policies/prod.json"))
    assert preview(tmp_path / "b", tagged, *strict).returncode != 0
