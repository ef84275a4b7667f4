"""What goes wrong during an update: killed, refused, two at once, a broken state, drift, a leaked secret."""

import json
import os
from pathlib import Path

import pytest

from assist.plan_gke.pending import pending
from tests.infra.gcp.double import COMPUTE, CONTAINER, IAM, PROJECT, Double
from tests.infra.gcp.engine import TOKEN, Workspace

pytestmark = [pytest.mark.gcp, pytest.mark.slow, pytest.mark.timeout(900)]

LOCATION = "us-central1-a"
POOLS = f"{CONTAINER}/locations/{LOCATION}/clusters/gke-dev/nodePools"


# Where Google keeps what a half-done creation may have left; enabling an API or a grant is the same done twice.
KEPT = {
    "Network": f"{COMPUTE}/global/networks/{{}}",
    "Subnetwork": f"{COMPUTE}/regions/us-central1/subnetworks/{{}}",
    "Router": f"{COMPUTE}/regions/us-central1/routers/{{}}",
    "Account": f"{IAM}/{{}}@{PROJECT}.iam.gserviceaccount.com",
    "Cluster": f"{CONTAINER}/locations/{LOCATION}/clusters/{{}}",
    "NodePool": f"{POOLS}/{{}}",
}


def half_done(workspace: Workspace) -> dict[str, str]:
    """Return the name and the kind of everything that was cut off, as the findings say."""
    done = workspace.pulumi("stack", "export")
    assert done.returncode == 0, done.stderr
    found = [one for one in pending(json.loads(done.stdout), "gke-dev") if one.status != "ok"]
    return {one.id.removeprefix("pending "): one.cause.split()[1].rpartition(":")[2] for one in found}


@pytest.mark.parametrize(
    "victim",
    ["compute:Network gke-dev", "container:Cluster gke-dev", "container:NodePool gke-dev-gpu-g1"],
)
def test_a_killed_up_is_found_and_after_its_remedy_nothing_exists_twice(workspace: Workspace, victim):
    """I2. The remedy is followed to the letter: delete what Google has of it, forget the operation, go on."""
    double, name = workspace.double, victim.split()[1]
    workspace.kill_at(f"gcp:{victim} creating")
    workspace.expect(0, "cancel", "--yes")
    cut_off = half_done(workspace)
    assert name in cut_off
    for one, kind in cut_off.items():
        remove(double, one, kind)
    workspace.expect(0, "refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    assert half_done(workspace) == {}
    workspace.up()
    pools = [pool.rpartition("-")[0] for pool in double.pools("gke-dev", LOCATION)]
    assert pools == ["gke-dev-cpu", "gke-dev-gpu-g1"]
    workspace.expect(0, "preview", "--refresh", "--expect-no-changes")


def remove(double: Double, name: str, kind: str) -> None:
    """Delete at Google what a cut-off creation left, as its finding asks."""
    if kind in KEPT:
        named = [pool for pool in double.pools("gke-dev", LOCATION) if pool.startswith(name)]
        for one in named if kind == "NodePool" else [name]:
            double.ask("DELETE", KEPT[kind].format(one))


@pytest.mark.parametrize(
    ("taken", "address", "body"),
    [
        ("compute:Network", f"{COMPUTE}/global/networks", {"name": "gke-dev"}),
        (
            "serviceaccount:Account",
            IAM,
            {"accountId": "gke-dev-nodes", "serviceAccount": {"displayName": "somebody else's"}},
        ),
    ],
    ids=["the network", "the nodes' account"],
)
def test_a_creation_that_google_refuses_fails_the_update_and_the_next_one_goes_on(
    workspace: Workspace, taken, address, body
):
    """I3. Google's own refusal: a name that is taken."""
    double = workspace.double
    assert double.ask("POST", address, body).status_code == 200
    failed = workspace.pulumi("up", "--yes", "--skip-preview")
    assert failed.returncode != 0
    assert taken in failed.stdout
    assert half_done(workspace) == {}
    made = set(workspace.links())
    blocking = (
        f"{address}/gke-dev"
        if "networks" in address
        else f"{IAM}/gke-dev-nodes@{PROJECT}.iam.gserviceaccount.com"
    )
    double.ask("DELETE", blocking)
    workspace.up()
    assert made <= set(workspace.links())
    workspace.expect(0, "preview", "--refresh", "--expect-no-changes")


def test_a_second_writer_is_refused_and_the_first_finishes(workspace: Workspace):
    """I5."""
    first = workspace.start_up()
    workspace.wait_for("gcp:compute:Network gke-dev creating", first)
    second = workspace.pulumi("up", "--yes", "--skip-preview")
    assert second.returncode != 0
    assert "locked" in second.stdout + second.stderr
    assert first.wait(timeout=400) == 0, workspace.log
    assert len(workspace.double.pools("gke-dev", LOCATION)) == 2


def test_a_truncated_state_stops_everything_and_its_backup_restores_it(workspace: Workspace):
    """I4."""
    workspace.up()
    whole = workspace.state.read_bytes()
    for size in (0, len(whole) // 2, len(whole) - 2):
        workspace.state.write_bytes(whole[:size])
        refused = workspace.pulumi("up", "--yes", "--skip-preview")
        assert refused.returncode != 0, size
    assert len(workspace.double.pools("gke-dev", LOCATION)) == 2
    workspace.state.write_bytes(workspace.state.with_name("gke-dev.json.bak").read_bytes())
    workspace.expect(0, "refresh", "--yes", "--skip-preview")
    workspace.expect(0, "preview", "--expect-no-changes")


def test_drift_is_found_and_named(workspace: Workspace):
    """I6. A plain preview is blind to it; the nightly one refreshes."""
    workspace.up()
    (_, pool) = workspace.double.pools("gke-dev", LOCATION)
    assert workspace.double.ask("DELETE", f"{POOLS}/{pool}").status_code == 200
    workspace.expect(0, "preview", "--expect-no-changes")
    drifted = workspace.pulumi("preview", "--refresh", "--expect-no-changes")
    assert drifted.returncode != 0
    assert "gcp:container:NodePool gke-dev-gpu-g1 create" in drifted.stdout
    workspace.expect(0, "up", "--refresh", "--yes", "--skip-preview")
    assert len(workspace.double.pools("gke-dev", LOCATION)) == 2


def test_no_secret_reaches_state_history_diff_output_or_argv(workspace: Workspace):
    """I7. The token that we authenticate with, a kubeconfig's key and a configured secret."""
    kubeconfig = workspace.folder / "kubeconfig"
    kubeconfig.write_text("users: [{user: {token: canary-kubeconfig-91ab}}]\n")
    workspace.expect(0, "config", "set", "kubeconfig", str(kubeconfig))
    workspace.expect(0, "config", "set", "--secret", "deployToken", "canary-deploy-token-5d20")
    first = workspace.start_up()
    workspace.wait_for("gcp:compute:Network gke-dev creating", first)
    seen = [arguments_of_session(first.pid)]
    assert first.wait(timeout=400) == 0, workspace.log
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
    for canary in (TOKEN, "canary-kubeconfig-91ab", "canary-deploy-token-5d20"):
        assert canary not in text


def arguments_of_session(session: int) -> str:
    """Return the command lines of all processes of a session: Pulumi gives its plugins groups of their own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getsid(int(entry.name)) == session:
                    found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    assert len(found) >= 2, found
    return "\n".join(found)
