"""The real engine and the real provider against a real API server: admission, scheduling, state."""

import json
import time

import pytest

from stackfile.catalogue import ROOT
from testing import needs, tools
from testing.cluster.engine import Workspace
from testing.cluster.simulated import Simulated

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(1200)]

UP = ("up", "--yes", "--skip-preview", "--stack")
CANARIES = {
    "keys": '{"keys":[{"id":"canary-keys-5e1f"}]}',
    "redisPassword": "canary-redis-93ab",
    "deployTokenUser": "canary-user-77c0",
    "deployToken": "canary-token-d41d",
    "hubToken": "canary-hub-8c2f",
}


def done(result) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_up_is_complete_the_second_changes_nothing_and_destroy_leaves_nothing(workspace: Workspace):
    workspace.stack("kube-local")
    done(workspace.pulumi(*UP, "kube-local"))
    ready = json.loads(workspace.kubectl("-n", "ai-assist", "get", "deployments", "-o", "json"))["items"]
    assert {item["metadata"]["name"] for item in ready} == {"gateway", "triton"}
    assert all(item["status"].get("readyReplicas") for item in ready)
    again = done(workspace.pulumi("up", "--yes", "--stack", "kube-local", "--expect-no-changes"))
    assert "29 unchanged" in again
    done(workspace.pulumi("preview", "--refresh", "--expect-no-changes", "--stack", "kube-local"))
    done(workspace.pulumi("destroy", "--yes", "--skip-preview", "--stack", "kube-local"))
    assert workspace.left() == []


@pytest.mark.skipif(
    not (ROOT / ".run/venvs/policies/bin/python").exists(),
    reason=needs.reason("the policy pack's environment is missing", needs.PACKAGES),
)
def test_the_policy_pack_has_nothing_against_the_program_but_advice(workspace: Workspace):
    workspace.stack("kube-local")
    pack = str(ROOT / "policies")
    seen = done(workspace.pulumi("preview", "--stack", "kube-local", "--policy-pack", pack))
    assert "image-by-digest" in seen
    assert "[mandatory]" not in seen


def test_triton_lands_on_the_t4_pool_and_nothing_else_does(workspace: Workspace):
    kubernetes = {
        "store": {"access_mode": "ReadWriteMany", "size_gib": 1},
        "triton": {"replicas": 2, "node_selector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}},
    }
    workspace.stack("t4", accelerator={"kind": "t4"}, kubernetes=kubernetes)
    done(workspace.pulumi(*UP, "t4"))
    nodes = json.loads(workspace.kubectl("get", "nodes", "-o", "json"))["items"]
    gpu = {n["metadata"]["name"] for n in nodes if "nvidia.com/gpu" in n["status"]["capacity"]}
    pods = json.loads(workspace.kubectl("-n", "ai-assist", "get", "pods", "-o", "json"))["items"]
    placed = {(p["metadata"]["labels"]["app.kubernetes.io/name"], p["spec"]["nodeName"] in gpu) for p in pods}
    assert placed == {("triton", True), ("gateway", False), ("loader", False)}


@pytest.fixture
def autoscaled(cluster: Simulated) -> None:
    """Let Karpenter make T4 nodes for pods that find none: not GKE's autoscaler, but the same contract."""
    if reason := tools.missing("gpu-nodes"):
        pytest.skip(reason)
    cluster.start_karpenter()


def test_the_gpu_pool_grows_from_0_to_5_with_the_pods_and_back_to_0(workspace: Workspace, autoscaled: None):
    pool = {"karpenter.sh/nodepool": "gpu-pool"}

    def size() -> int:
        return len(
            json.loads(workspace.kubectl("get", "nodes", "-l", "karpenter.sh/nodepool", "-o", "json"))[
                "items"
            ]
        )

    kubernetes = {
        "store": {"access_mode": "ReadWriteMany", "size_gib": 1},
        "triton": {"replicas": 5, "node_selector": pool},
    }
    workspace.stack("pool", accelerator={"kind": "t4"}, kubernetes=kubernetes)
    assert size() == 0
    done(workspace.pulumi(*UP, "pool"))
    assert size() == 5
    done(workspace.pulumi("destroy", "--yes", "--skip-preview", "--stack", "pool"))
    deadline = time.monotonic() + 300
    while size() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert size() == 0


def test_no_secret_shows_in_state_history_diff_or_output(workspace: Workspace):
    kubernetes = {"registry": "registry.example"}
    workspace.stack("canary", CANARIES, cache={"kind": "redis"}, kubernetes=kubernetes)
    seen = done(workspace.pulumi("preview", "--diff", "--stack", "canary"))
    seen += done(workspace.pulumi(*UP, "canary", "--diff"))
    seen += done(workspace.pulumi("stack", "output", "--json", "--show-secrets", "--stack", "canary"))
    seen += done(workspace.pulumi("stack", "export", "--stack", "canary"))
    files = [file for file in workspace.folder.rglob("*") if file.is_file() and not file.is_symlink()]
    kept = b"".join(file.read_bytes() for file in files)
    assert b"gitlab-registry" in kept, "the state must have been among the files"
    for canary in ("canary-keys-5e1f", *list(CANARIES.values())[1:]):
        assert canary not in seen
        assert canary.encode() not in kept
    token = workspace.kubectl("-n", "ai-assist", "get", "secret", "redis-config", "-o", "jsonpath={.data}")
    assert "redis.conf" in token


def test_missing_secrets_stop_it_before_anything_is_made_and_the_commands_are_named(workspace: Workspace):
    workspace.stack("bare", {}, cache={"kind": "redis"}, kubernetes={"registry": "registry.example"})
    refused = workspace.pulumi("preview", "--stack", "bare")
    assert refused.returncode != 0
    for name in ("keys", "redisPassword", "deployToken", "deployTokenUser"):
        assert f"pulumi config set --secret {name}" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert workspace.left() == []


def test_after_a_killed_up_nothing_is_made_twice_and_adopting_what_is_there_finishes_it(workspace: Workspace):
    workspace.stack("kube-local")
    workspace.killed_up("kube-local", "kubernetes:core/v1:LimitRange kube-local created")
    assert workspace.pulumi(*UP, "kube-local").returncode != 0, "the dead run still holds the lock"
    workspace.restore_state("kube-local")
    done(workspace.pulumi("cancel", "--yes", "--stack", "kube-local"))
    refused = workspace.pulumi(*UP, "kube-local")
    if refused.returncode != 0:
        # An object was made that the state does not know: the provider will not take it over unasked.
        assert "upsertExistingObjects" in refused.stdout
        workspace.variables["PULUMI_K8S_UPSERT_EXISTING_OBJECTS"] = "true"
        done(workspace.pulumi(*UP, "kube-local"))
    deployments = workspace.kubectl("-n", "ai-assist", "get", "deployments,jobs", "-o", "name").split()
    assert len(deployments) == 3
    done(workspace.pulumi("destroy", "--yes", "--skip-preview", "--stack", "kube-local"))
    assert workspace.left() == []


def test_drift_is_found_and_named_and_the_next_up_takes_it_back(workspace: Workspace):
    workspace.stack("kube-local")
    done(workspace.pulumi(*UP, "kube-local"))
    policy = ("-n", "ai-assist", "patch", "networkpolicy", "default-deny", "--type=merge", "-p")
    workspace.kubectl(*policy, '{"spec":{"policyTypes":["Ingress"]}}')
    found = workspace.pulumi("preview", "--refresh", "--expect-no-changes", "--stack", "kube-local", "--diff")
    assert found.returncode != 0
    assert "default-deny" in found.stdout
    done(workspace.pulumi(*UP, "kube-local", "--refresh"))
    types = workspace.kubectl(
        "-n", "ai-assist", "get", "networkpolicy", "default-deny", "-o", "jsonpath={.spec.policyTypes}"
    )
    assert "Egress" in types
