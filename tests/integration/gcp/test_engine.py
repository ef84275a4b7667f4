"""The Google half by the real engine: with the double of Google, or with ``ASSIST_REAL_GCP=1`` with Google itself."""

import json
from ipaddress import IPv4Network

import pytest

from testing.gcp.double import Google, limit_s
from testing.gcp.engine import Workspace
from tests.infra.gcp.stacks import stack, written

pytestmark = [pytest.mark.gcp, pytest.mark.slow, pytest.mark.timeout(limit_s(900))]

STANDARD = {"control_plane": "regional", "release_channel": "none", "version": "1.33.5-gke.100"}
PUBLIC = {"endpoint": "public", "authorized_networks": {"office": "192.0.2.0/24"}}
# gke-dev itself goes up and down in tests/integration/node.
VARIANTS = {
    "regional with a pinned version and a public endpoint": STANDARD | PUBLIC,
    "private endpoint, driver left to an operator": {"endpoint": "private", "gpu_pool__driver": "none"},
    "autopilot": {"autopilot": True, "gpu_pool__spot": False},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_up_is_stable_and_destroy_leaves_google_empty(tmp_path, google: Google, changes):
    workspace = Workspace(tmp_path, google, "gke-dev")
    service = stack(**changes)
    workspace.prepare(written(service, tmp_path))
    workspace.up()
    assert service.gke is not None
    pools = google.pools("gke-dev", service.gke.location)
    wanted = [] if service.gke.autopilot else ["gke-dev-cpu", "gke-dev-gpu-g1"]
    assert [name.rpartition("-")[0] for name in pools if name != "default-pool"] == wanted
    assert all(len(name) <= 40 for name in pools)
    workspace.expect(0, "preview", "--expect-no-changes")
    workspace.expect(0, "preview", "--refresh", "--expect-no-changes")
    outputs = workspace.export()["checkpoint"]["latest"]["resources"][0]["outputs"]
    assert json.loads(outputs["kubeconfig"])["current-context"] == "gke-dev"
    links = workspace.links()
    assert len(links) == 4  # network, subnetwork, router, cluster: what has an address of its own
    assert all(map(google.exists, links))
    workspace.expect(0, "destroy", "--yes", "--skip-preview")
    assert not any(map(google.exists, links))
    assert not google.has_account("gke-dev-nodes")
    assert "gke-dev-nodes" not in google.bindings()


def test_production_is_neither_replaced_nor_destroyed_until_its_protection_is_lifted(
    tmp_path, google: Google
):
    workspace = Workspace(tmp_path, google, "gke-prod")
    workspace.prepare(written(stack("gke-prod"), tmp_path))
    workspace.up()
    refusal = workspace.pulumi("destroy", "--yes", "--skip-preview")
    assert refusal.returncode != 0
    assert "protect" in refusal.stdout + refusal.stderr
    written(stack("gke-prod", network__control_plane=IPv4Network("172.16.99.0/28")), tmp_path)
    replacing = workspace.pulumi("preview")  # I8
    assert replacing.returncode != 0
    assert "protect" in replacing.stdout + replacing.stderr
    assert all(map(google.exists, workspace.links()))
    written(stack("gke-prod", deletion_protection=False), tmp_path)
    workspace.up()
    workspace.expect(0, "destroy", "--yes", "--skip-preview")


def test_a_new_generation_of_gpu_nodes_stands_before_the_old_one_goes(tmp_path, workspace: Workspace):
    google = workspace.google
    workspace.up()
    (cpu, old) = google.pools("gke-dev", "us-central1-a")
    file = written(stack(gpu_pool__generations=(1, 2), gpu_pool__machine_type="n1-standard-8"), tmp_path)
    workspace.expect(0, "config", "set", "test:stack", str(file))
    workspace.up()
    (still_cpu, still_old, new) = google.pools("gke-dev", "us-central1-a")
    assert (still_cpu, still_old) == (cpu, old)
    written(stack(gpu_pool__generations=(2,), gpu_pool__machine_type="n1-standard-8"), tmp_path)
    workspace.up()
    assert google.pools("gke-dev", "us-central1-a") == [cpu, new]
