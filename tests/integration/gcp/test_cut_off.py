"""An update that is cut off at each of its creations, by a signal or by Google, and what its remedy leaves."""

import signal
import subprocess
from collections.abc import Iterator

import pytest

from assist.gke.pending import pending
from testing.gcp.double import COMPUTE, CONTAINER, IAM, PROJECT, Double
from testing.gcp.engine import Workspace
from testing.gcp.gate import Gate, serving

pytestmark = [pytest.mark.gcp, pytest.mark.slow, pytest.mark.timeout(1500)]

LOCATION = "us-central1-a"
POOLS = f"{CONTAINER}/locations/{LOCATION}/clusters/gke-dev/nodePools"
ROUTER = f"{COMPUTE}/regions/us-central1/routers/gke-dev"
# Where Google keeps what a half-done creation may have left; enabling an API or a grant is the same done twice.
KEPT = {
    "Network": f"{COMPUTE}/global/networks/{{}}",
    "Subnetwork": f"{COMPUTE}/regions/us-central1/subnetworks/{{}}",
    "Router": f"{COMPUTE}/regions/us-central1/routers/{{}}",
    "Account": f"{IAM}/{{}}@{PROJECT}.iam.gserviceaccount.com",
    "Cluster": f"{CONTAINER}/locations/{LOCATION}/clusters/{{}}",
    "NodePool": f"{POOLS}/{{}}",
}
# Every creation whose API the provider lets itself be sent elsewhere for, in the program's order.
CREATIONS = {
    "services:batchEnable",
    "networks gke-dev",
    "subnetworks gke-dev",
    "routers gke-dev",
    "gke-dev",  # the router's NAT
    f"{PROJECT}:setIamPolicy",
    "clusters gke-dev",
    "nodePools gke-dev-cpu",
    "nodePools gke-dev-gpu-g1",
}
POLITE = {
    "subnetworks gke-dev": signal.SIGINT,
    "routers gke-dev": signal.SIGINT,
    "clusters gke-dev": signal.SIGTERM,
}


@pytest.fixture
def gate(workspace: Workspace) -> Iterator[Gate]:
    """Put a gate between the provider and the double."""
    made = Gate(workspace.double)
    with serving(made) as variables:
        workspace.variables = variables
        yield made


def half_done(workspace: Workspace) -> dict[str, str]:
    """Return the name and the kind of everything that was cut off, as the findings say."""
    deployment = workspace.export()["checkpoint"]["latest"]
    found = [one for one in pending({"deployment": deployment}, "gke-dev") if one.status != "ok"]
    return {one.id.removeprefix("pending "): one.cause.split()[1].rpartition(":")[2] for one in found}


def follow_remedy(workspace: Workspace) -> None:
    """Do what the findings ask, to the letter: delete what Google has of it, forget the operation."""
    workspace.expect(0, "cancel", "--yes")
    cut_off = half_done(workspace)
    assert cut_off
    for name, kind in cut_off.items():
        remove(workspace.double, name, kind)
    workspace.expect(0, "refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    assert half_done(workspace) == {}


def remove(double: Double, name: str, kind: str) -> None:
    """Delete at Google what a cut-off creation left."""
    if kind == "RouterNat":
        double.ask("PATCH", ROUTER, {"nats": []})
    elif kind in KEPT:
        named = [pool for pool in double.pools("gke-dev", LOCATION) if pool.startswith(name)]
        for one in named if kind == "NodePool" else [name]:
            double.ask("DELETE", KEPT[kind].format(one))


def nothing_exists_twice(workspace: Workspace) -> None:
    pools = [pool.rpartition("-")[0] for pool in workspace.double.pools("gke-dev", LOCATION)]
    assert pools == ["gke-dev-cpu", "gke-dev-gpu-g1"]
    workspace.expect(0, "preview", "--refresh", "--expect-no-changes")


def cut(workspace: Workspace, gate: Gate, process: subprocess.Popen[str]) -> None:
    """End an update whose call is held: by SIGKILL, or politely, which lets it finish the creation."""
    polite = POLITE.get(gate.held[0])
    if polite is None:
        workspace.kill(process)
        gate.open()
        follow_remedy(workspace)
        return
    process.send_signal(polite)
    workspace.wait_until(lambda: "received; cancelling" in workspace.log, process)
    gate.open()
    assert process.wait(timeout=400) != 0
    assert half_done(workspace) == {}


def test_an_up_that_is_cut_off_at_any_creation_goes_on_after_its_remedy_and_nothing_exists_twice(
    workspace: Workspace, gate: Gate
):
    """I2. Every second call has not reached Google when the kill comes; the others have, unanswered."""
    for turn in range(len(CREATIONS) + 1):
        gate.hold(arrives=lambda made, even=turn % 2 == 0: even or made in POLITE)
        process = workspace.start_up()
        if not gate.waits_for(process):
            break
        cut(workspace, gate, process)
    assert process.wait(timeout=400) == 0, workspace.log
    assert set(gate.met) == CREATIONS
    nothing_exists_twice(workspace)


def test_an_up_killed_while_the_nodes_account_is_made_goes_on_after_its_remedy(workspace: Workspace):
    """I2. The provider's way to this API is fixed, but it waits seconds for the account to be known."""
    process = workspace.start_up()
    workspace.wait_until(lambda: any("Account::" in urn for urn in workspace.pending()), process)
    workspace.kill(process)
    follow_remedy(workspace)
    workspace.up()
    nothing_exists_twice(workspace)


def test_any_creation_that_google_refuses_fails_the_update_and_the_next_one_goes_on(
    workspace: Workspace, gate: Gate
):
    """I3. Each is refused once, as for a quota that is used up."""
    for _ in range(len(CREATIONS) + 1):
        gate.refuses = True
        known = len(gate.met)
        done = workspace.pulumi("up", "--yes", "--skip-preview")
        if done.returncode == 0:
            break
        assert len(gate.met) > known, done.stdout + done.stderr
        assert "used up, says the test" in done.stdout
        assert half_done(workspace) == {}
    assert done.returncode == 0
    assert set(gate.met) >= CREATIONS
    nothing_exists_twice(workspace)
