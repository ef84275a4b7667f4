"""What goes wrong around an update: two at once, a broken state, drift, a leaked secret."""

import json
from contextlib import suppress
from typing import Any

import pytest

from testing.gcp.double import limit_s
from testing.gcp.engine import Workspace, processes

pytestmark = [pytest.mark.gcp, pytest.mark.slow, pytest.mark.timeout(limit_s(900))]

LOCATION = "us-central1-a"


def test_a_second_writer_is_refused_and_the_first_finishes(workspace: Workspace):
    """I5."""
    first = workspace.start_up()
    workspace.wait_until(lambda: "gcp:compute:Network gke-dev creating" in workspace.log, first)
    second = workspace.pulumi("up", "--yes", "--skip-preview")
    assert second.returncode != 0
    assert "locked" in second.stdout + second.stderr
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


def test_no_secret_reaches_state_history_diff_output_or_argv(workspace: Workspace):
    """I7. The token that we authenticate with, a kubeconfig's key and a configured secret."""
    kubeconfig = workspace.folder / "kubeconfig"
    kubeconfig.write_text("users: [{user: {token: canary-kubeconfig-91ab}}]\n")
    workspace.expect(0, "config", "set", "kubeconfig", str(kubeconfig))
    workspace.expect(0, "config", "set", "--secret", "deployToken", "canary-deploy-token-5d20")
    first = workspace.start_up()
    workspace.wait_until(lambda: "gcp:compute:Network gke-dev creating" in workspace.log, first)
    seen = [arguments_of_session(first.pid)]
    for program, variables in environments_of_session(first.pid).items():
        # Pulumi hands the program its configuration that way, and no other process gets it.
        assert "pulumi-language-python-exec" in program or "canary-deploy-token" not in variables
        assert "canary-kubeconfig" not in variables
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
