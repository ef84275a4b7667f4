"""An update that is cut off at each of its creations, by a signal or by Google, and what its remedy leaves."""

import signal
import subprocess

import pytest

from assist.gke.pending import pending
from testing.gcp import faults
from testing.gcp.double import Double
from testing.gcp.engine import Workspace
from testing.gcp.gate import Gate

pytestmark = [pytest.mark.gcp, pytest.mark.slow, pytest.mark.timeout(1500)]

LOCATION = "us-central1-a"
# Enabling an API or granting a role is the same done twice, so the findings' reader leaves both.
HARMLESS = {"Service", "IAMMember"}
# Every creation of the program, in its order.
CREATIONS = {
    "Service gke-dev-apis-compute",
    "Service gke-dev-apis-container",
    "Network gke-dev",
    "Subnetwork gke-dev",
    "Router gke-dev",
    "RouterNat gke-dev",
    "Account gke-dev-nodes",
    "IAMMember gke-dev-nodes-node",
    "IAMMember gke-dev-nodes-images",
    "Cluster gke-dev",
    "NodePool gke-dev-cpu",
    "NodePool gke-dev-gpu-g1",
}
POLITE = {
    "Subnetwork gke-dev": signal.SIGINT,
    "Router gke-dev": signal.SIGINT,
    "Cluster gke-dev": signal.SIGTERM,
}
POOLS = ["gke-dev-cpu", "gke-dev-gpu-g1"]


def half_done(workspace: Workspace) -> dict[str, str]:
    """Return the name and the kind of everything that was cut off, as the findings say."""
    deployment = workspace.export()["checkpoint"]["latest"]
    found = [one for one in pending({"deployment": deployment}, "gke-dev") if one.status != "ok"]
    return {one.id.removeprefix("pending "): one.cause.split()[1].rpartition(":")[2] for one in found}


def follow_remedy(workspace: Workspace, double: Double) -> None:
    """Do what the findings ask, to the letter: delete what Google has of it, forget the operation."""
    workspace.expect(0, "cancel", "--yes")
    cut_off = half_done(workspace)
    assert cut_off
    for name, kind in cut_off.items():
        if kind not in HARMLESS:
            double.remove(kind, name)
    workspace.expect(0, "refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    assert half_done(workspace) == {}


def nothing_exists_twice(workspace: Workspace) -> None:
    pools = [pool.rpartition("-")[0] for pool in workspace.google.pools("gke-dev", LOCATION)]
    assert pools == POOLS
    workspace.expect(0, "preview", "--refresh", "--expect-no-changes")


def cut(workspace: Workspace, gate: Gate, process: subprocess.Popen[str]) -> None:
    """End an update whose call is held: by SIGKILL, or politely, which lets it finish the creation."""
    polite = POLITE.get(gate.held[0])
    if polite is None:
        workspace.kill(process)
        gate.open()
        follow_remedy(workspace, gate.double)
        return
    process.send_signal(polite)
    workspace.wait_until(lambda: "received; cancelling" in workspace.log, process)
    # What is on its way to Google meets the gate too; nothing is begun any more.
    workspace.wait_until(lambda: begun(workspace) and begun(workspace) <= set(gate.held), process)
    gate.open()
    assert process.wait(timeout=400) != 0
    assert half_done(workspace) == {}


def begun(workspace: Workspace) -> set[str]:
    """Return every creation that the state shows as begun, as the gate names it; none while it is written."""
    parts = [urn.split("::") for urn in workspace.pending()]
    return {f"{kind.rpartition(':')[2]} {name}" for _, _, kind, name in parts}


def test_an_up_that_is_cut_off_at_any_creation_goes_on_after_its_remedy_and_nothing_exists_twice(
    workspace: Workspace, gate: Gate
):
    """I2. Every second call has not reached Google when the kill comes; the others have, unanswered."""
    for turn in range(len(CREATIONS) + 1):
        gate.hold(arrives=turn % 2 == 0, always=POLITE)
        process = workspace.start_up()
        if not gate.waits_for(process):
            break
        cut(workspace, gate, process)
    assert process.wait(timeout=400) == 0, workspace.log
    assert set(gate.met) == CREATIONS
    nothing_exists_twice(workspace)


def test_an_up_killed_while_the_nodes_account_is_made_goes_on_after_its_remedy(
    workspace: Workspace, double: Double
):
    """I2. Google's provider waits for seconds until a new account is known everywhere, so a kill often meets it."""
    held = {"method": "Create", "type": "*:Account", "hold": "answer", "gate": "account"}
    faults.write(double.cloud, held)
    process = workspace.start_up()
    workspace.wait_until(lambda: double.has_account("gke-dev-nodes"), process)
    workspace.wait_until(lambda: any("Account::" in urn for urn in workspace.pending()), process)
    workspace.kill(process)
    faults.write(double.cloud)
    follow_remedy(workspace, double)
    assert not double.has_account("gke-dev-nodes")
    workspace.up()
    nothing_exists_twice(workspace)


def test_any_creation_that_google_refuses_fails_the_update_and_the_next_one_goes_on(
    workspace: Workspace, gate: Gate
):
    """I3. Each is refused once, as for a quota that is used up."""
    for _ in range(len(CREATIONS) + 1):
        gate.refuse("used up, says the test")
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
