"""A real API server reads every manifest: each field is known to it, and Pod Security warns of nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra import render
from stackfile.catalogue import ROOT

pytestmark = [pytest.mark.kube, pytest.mark.slow]

RESTRICTED = "would violate PodSecurity"
# What `restricted` asks of a container or its pod, taken away, and how the warning names it.
BROKEN = {
    "allowPrivilegeEscalation": "allowPrivilegeEscalation != false",
    "capabilities": "unrestricted capabilities",
    "runAsNonRoot": "runAsNonRoot != true",
    "seccompProfile": "seccompProfile",
}


def apply(kubeconfig: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", "--kubeconfig", kubeconfig, "apply", "--validate=strict", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def namespace(kubeconfig: Path) -> Iterator[Path]:
    """Make the manifests' own namespace, whose labels enforce and warn."""
    made = ROOT / "manifests/code-completion/cpu/0-namespace-ai-assist.yaml"
    assert apply(kubeconfig, "-f", str(made)).returncode == 0
    yield kubeconfig
    delete = ["kubectl", "--kubeconfig", kubeconfig, "delete", "-f", made]
    subprocess.run(delete, check=True, timeout=300)


@pytest.mark.parametrize("folder", sorted(render.VARIANTS))
def test_the_api_server_takes_every_manifest_without_a_warning(namespace: Path, folder: str):
    done = apply(namespace, "--dry-run=server", "-k", str(ROOT / "manifests" / folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    files = list((ROOT / "manifests" / folder).glob("[0-9]*.yaml"))
    assert len(done.stdout.splitlines()) == len(files) > 10


@pytest.mark.parametrize("control", BROKEN)
@pytest.mark.parametrize("file", ["3-deployment-triton.yaml", "3-job-loader.yaml"])
def test_pod_security_names_a_control_that_is_taken_away(namespace: Path, file: str, control: str):
    document = yaml.safe_load((ROOT / "manifests/code-completion/t4" / file).read_text())
    spec = document["spec"]["template"]["spec"]
    for part in (spec, *spec["containers"], *spec.get("initContainers", [])):
        part["securityContext"].pop(control, None)
    done = apply(namespace, "--dry-run=server", "-f", "-", given=yaml.safe_dump(document))
    assert done.returncode == 0, "workloads are warned of; their pods would be refused"
    assert RESTRICTED in done.stderr
    assert BROKEN[control] in done.stderr


def test_a_field_that_kubernetes_does_not_know_is_refused(namespace: Path):
    document = yaml.safe_load((ROOT / "manifests/code-completion/cpu/3-job-loader.yaml").read_text())
    document["spec"]["backofLimit"] = 3
    done = apply(namespace, "--dry-run=server", "-f", "-", given=yaml.safe_dump(document))
    assert done.returncode != 0
    assert 'unknown field "spec.backofLimit"' in done.stderr
