"""What goes wrong around an update: two at once, a broken state, drift, a leaked secret."""

import json
from contextlib import suppress
from typing import Any

import pytest

from testing.gcp import faults
from testing.gcp.cloud import open_gate
from testing.gcp.double import Double, limit_s
from testing.gcp.engine import Workspace, processes
from testing.gcp.gate import Gate
from tests.infra.gcp.stacks import stack, written

pytestmark = [pytest.mark.gcp, pytest.mark.slow, pytest.mark.timeout(limit_s(900))]

LOCATION = "us-central1-a"


def test_a_second_writer_is_refused_and_the_first_finishes(workspace: Workspace, gate: Gate):
    """I5."""
    gate.hold(arrives=False, always={})
    first = workspace.start_up()
    assert gate.waits_for(first), workspace.log
    second = workspace.pulumi("up", "--yes", "--skip-preview")
    assert second.returncode != 0
    assert "locked" in second.stdout + second.stderr
    gate.open()
    assert first.wait(timeout=limit_s(400)) == 0, workspace.log
    assert len(workspace.google.pools("gke-dev", LOCATION)) == 2


def test_a_truncated_or_inconsistent_state_stops_everything_and_its_backup_restores_it(workspace: Workspace):
    """I4."""
    workspace.up()
    whole = workspace.state.read_bytes()
    for size in (0, len(whole) // 2, len(whole) - 2):
        workspace.state.write_bytes(whole[:size])
        refused = workspace.pulumi("up", "--yes", "--skip-preview")
        assert refused.returncode != 0, size
    whole_state = json.loads(whole)
    for broken in (without_the_network(whole_state), whole_state | {"version": 99}):
        workspace.state.write_text(json.dumps(broken))
        refused = workspace.pulumi("up", "--yes", "--skip-preview")
        assert refused.returncode != 0, refused.stdout
    assert len(workspace.google.pools("gke-dev", LOCATION)) == 2
    workspace.state.write_bytes(workspace.state.with_name("gke-dev.json.bak").read_bytes())
    workspace.expect(0, "refresh", "--yes", "--skip-preview")
    workspace.expect(0, "preview", "--expect-no-changes")


def without_the_network(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state that lacks what others in it depend on."""
    latest = state["checkpoint"]["latest"]
    kept = [one for one in latest["resources"] if one["type"] != "gcp:compute/network:Network"]
    assert len(kept) == len(latest["resources"]) - 1
    return state | {"checkpoint": state["checkpoint"] | {"latest": latest | {"resources": kept}}}


def test_drift_is_found_and_named(workspace: Workspace):
    """I6. A plain preview is blind to it; the nightly one refreshes."""
    workspace.up()
    (_, pool) = workspace.google.pools("gke-dev", LOCATION)
    workspace.google.delete_pool("gke-dev", LOCATION, pool)
    workspace.expect(0, "preview", "--expect-no-changes")
    drifted = workspace.pulumi("preview", "--refresh", "--expect-no-changes")
    assert drifted.returncode != 0
    assert "gcp:container:NodePool gke-dev-gpu-g1 create" in drifted.stdout
    workspace.expect(0, "up", "--refresh", "--yes", "--skip-preview")
    assert len(workspace.google.pools("gke-dev", LOCATION)) == 2


def test_a_zone_without_machines_fails_the_update_and_the_next_one_mends_the_pool(
    workspace: Workspace, double: Double
):
    """I3. Google keeps the pool that it could not fill, so Pulumi must know it, and make no second one."""
    faults.write(
        double.cloud, {"method": "Create", "name": "gke-dev-cpu", "fail": "ZONE_RESOURCE_POOL_EXHAUSTED"}
    )
    failed = workspace.pulumi("up", "--yes", "--skip-preview")
    assert failed.returncode != 0
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in failed.stdout
    (cpu,) = double.pools("gke-dev", LOCATION)
    faults.write(double.cloud)
    workspace.up()
    assert double.pools("gke-dev", LOCATION)[0] == cpu
    assert len(double.pools("gke-dev", LOCATION)) == 2
    workspace.expect(0, "preview", "--refresh", "--expect-no-changes")


def test_pools_that_are_made_beside_each_other_wait_for_their_cluster(
    workspace: Workspace, double: Double, tmp_path
):
    """I3. GKE refuses a second operation on a cluster; the provider asks again, and the update does not fail."""
    both = written(stack(gpu_pool__generations=(1, 2)), tmp_path)
    workspace.expect(0, "config", "set", "test:stack", str(both))
    first_gpu = {"method": "Create", "name": "gke-dev-gpu-*", "nth": 1}
    faults.write(double.cloud, first_gpu | {"hold": "operation", "gate": "first"})
    process = workspace.start_up()
    workspace.wait_until(
        lambda: any(call["reason"] == "failedPrecondition" for call in double.calls), process
    )
    open_gate(double.cloud.folder, "first")
    assert process.wait(timeout=400) == 0, workspace.log
    assert len(double.pools("gke-dev", LOCATION)) == 3


def test_a_provider_that_dies_with_its_answer_leaves_nothing_that_could_be_made_twice(
    workspace: Workspace, double: Double
):
    """I2. The state does not know the network, but its name is fixed: Google refuses a second one."""
    faults.write(double.cloud, {"method": "Create", "type": "*:Network", "nth": 1, "exit": "after"})
    # One at a time: what the provider makes beside the network would lose its answer, too.
    assert workspace.pulumi("up", "--yes", "--skip-preview", "--parallel", "1").returncode != 0
    again = workspace.pulumi("up", "--yes", "--skip-preview")
    assert again.returncode != 0, again.stdout
    assert "global/networks/gke-dev' already exists" in again.stdout + again.stderr
    assert len(double.remove("Network", "gke-dev")) == 1
    workspace.up()


def test_no_secret_reaches_state_history_diff_output_or_argv(workspace: Workspace, gate: Gate):
    """I7. The token that we authenticate with, a kubeconfig's key and a configured secret."""
    kubeconfig = workspace.folder / "kubeconfig"
    kubeconfig.write_text("users: [{user: {token: canary-kubeconfig-91ab}}]\n")
    workspace.expect(0, "config", "set", "kubeconfig", str(kubeconfig))
    workspace.expect(0, "config", "set", "--secret", "deployToken", "canary-deploy-token-5d20")
    gate.hold(arrives=False, always={})
    first = workspace.start_up()
    assert gate.waits_for(first), workspace.log
    seen = [arguments_of_session(first.pid)]
    for program, variables in environments_of_session(first.pid).items():
        # Pulumi hands the program its configuration that way, and no other process gets it.
        assert "pulumi-language-python-exec" in program or "canary-deploy-token" not in variables
        assert "canary-kubeconfig" not in variables
    gate.open()
    assert first.wait(timeout=limit_s(400)) == 0, workspace.log
    seen += [
        workspace.log,
        workspace.expect(0, "preview", "--diff"),
        workspace.expect(0, "preview", "--json"),
    ]
    seen += [workspace.expect(0, "stack", "output", "--json"), workspace.expect(0, "stack", "export")]
    seen += [file.read_text(errors="replace") for file in workspace.backend.rglob("*") if file.is_file()]
    seen += [(workspace.folder / "program/Pulumi.gke-dev.yaml").read_text()]
    text = "\n".join(seen)
    assert "gke-dev-nodes" in text
    for canary in (workspace.google.token, "canary-kubeconfig-91ab", "canary-deploy-token-5d20"):
        assert canary not in text


def environments_of_session(session: int) -> dict[str, str]:
    """Return the environment of each process of a session by its command line."""
    found = {}
    for entry in processes(session):
        with suppress(OSError):  # it may have ended meanwhile
            program = (entry / "cmdline").read_bytes().decode(errors="replace")
            found[program] = (entry / "environ").read_bytes().decode(errors="replace")
    assert len(found) >= 2, found
    return found


def arguments_of_session(session: int) -> str:
    """Return the command lines of all processes of a session."""
    return "\n".join(environments_of_session(session))
