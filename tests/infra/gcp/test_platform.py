"""What the Google half registers, looked at without an engine; each known trap of GKE has its test."""

import json

import pulumi
import pytest

from tests.infra.gcp.recorder import deploy
from tests.infra.gcp.stacks import stack

CLUSTER, POOL = "container/cluster", "container/nodePool"


def test_every_resource_names_the_explicit_provider():
    recorder, _ = deploy(stack())
    google = [resource for resource in recorder.resources if resource.typ.startswith("gcp:")]
    assert len(google) >= 12
    assert {resource.provider.split("::")[3] for resource in google} == {"google"}


def test_every_child_has_its_own_component_as_parent_and_nothing_leaks_into_it():
    recorder, _ = deploy(stack("gke-prod"))
    for name, options in recorder.options.items():
        if name != "ai-assist:gcp:Platform:gke-prod":
            assert options.parent is not None, name
        protected = name == "gcp:container/cluster:Cluster:gke-prod"
        assert bool(options.protect) is protected, name


def test_a_pool_has_no_fixed_name_because_its_replacement_would_delete_first():
    recorder, _ = deploy(stack())
    pools = recorder.of(POOL)
    assert set(pools) == {"gke-dev-cpu", "gke-dev-gpu-g1"}
    assert all("name" not in inputs and "namePrefix" not in inputs for inputs in pools.values())


def test_pool_names_leave_room_for_pulumis_suffix_in_gkes_forty_characters():
    longest = stack(gpu_pool__generations=(98, 99)).model_copy(update={"name": "a" * 24})
    names = deploy(longest)[0].of(POOL)
    assert all(len(name) + 8 <= 40 for name in names)
    (account,) = deploy(longest)[0].of("serviceaccount/account").values()
    assert 6 <= len(account["accountId"]) <= 30


def test_the_autoscaler_owns_the_node_count():
    for inputs in deploy(stack())[0].of(POOL).values():
        assert not {"nodeCount", "initialNodeCount"} & set(inputs)


def test_pools_are_resources_of_their_own_beside_the_cluster():
    assert "nodePools" not in deploy(stack())[0].one(CLUSTER)


def test_the_gpu_taint_is_declared_on_the_gpu_pool_and_only_there():
    pools = deploy(stack())[0].of(POOL)
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}
    assert pools["gke-dev-gpu-g1"]["nodeConfig"]["taints"] == [taint]
    assert "taints" not in pools["gke-dev-cpu"]["nodeConfig"]


def test_the_cpu_pool_comes_before_every_gpu_pool():
    recorder, _ = deploy(stack(gpu_pool__generations=(1, 2)))
    for generation in (1, 2):
        options = recorder.options[f"gcp:container/nodePool:NodePool:gke-dev-gpu-g{generation}"]
        assert [pulumi.Resource.pulumi_resource_name.fget(one) for one in options.depends_on] == [
            "gke-dev-cpu"
        ]


def test_an_older_generation_keeps_the_nodes_that_it_was_created_with():
    recorder, _ = deploy(stack(gpu_pool__generations=(1, 2)))
    ignored = {
        generation: recorder.options[
            f"gcp:container/nodePool:NodePool:gke-dev-gpu-g{generation}"
        ].ignore_changes
        for generation in (1, 2)
    }
    assert ignored == {1: ["nodeConfig"], 2: []}


def test_gpu_nodes_scale_from_zero_to_five_over_all_zones_that_have_one():
    pool = deploy(stack())[0].of(POOL)["gke-dev-gpu-g1"]
    scaling = {"totalMinNodeCount": 0, "totalMaxNodeCount": 5, "locationPolicy": "ANY"}
    assert pool["autoscaling"] == scaling
    assert len(pool["nodeLocations"]) == 4


@pytest.mark.parametrize(
    ("name", "protected"), [("gke-dev", False), ("gke-prod", True)], ids=["development", "production"]
)
def test_deletion_protection_is_always_said_and_follows_the_stack(name, protected):
    recorder, _ = deploy(stack(name))
    assert recorder.one(CLUSTER)["deletionProtection"] is protected
    assert recorder.options[f"gcp:container/cluster:Cluster:{name}"].protect is protected


def test_a_cpu_stack_has_no_gpu_pool():
    service = stack()
    cpu = service.accelerator.model_copy(update={"kind": "cpu", "compute_capability": None, "gke": None})
    pools = deploy(service.model_copy(update={"accelerator": cpu}))[0].of(POOL)
    assert set(pools) == {"gke-dev-cpu"}


def test_autopilot_makes_no_pools_and_gives_its_nodes_the_least_privileged_account():
    recorder, _ = deploy(stack(autopilot=True))
    cluster = recorder.one(CLUSTER)
    assert recorder.of(POOL) == {}
    assert cluster["enableAutopilot"] is True
    assert cluster["location"] == "us-central1"
    account = cluster["clusterAutoscaling"]["autoProvisioningDefaults"]["serviceAccount"]
    assert account == "gke-dev-nodes@demo-project.iam.gserviceaccount.com"
    # Google refuses these beside enableAutopilot.
    assert not {"enableShieldedNodes", "removeDefaultNodePool", "initialNodeCount"} & set(cluster)


def test_nodes_get_their_own_account_with_two_roles_and_none_that_writes():
    grants = deploy(stack())[0].of("projects/iAMMember").values()
    assert {grant["role"] for grant in grants} == {
        "roles/container.defaultNodeServiceAccount",
        "roles/artifactregistry.reader",
    }


@pytest.mark.parametrize(
    ("driver", "asked", "label"),
    [
        ("gke", "DEFAULT", None),
        ("daemonset", "INSTALLATION_DISABLED", None),
        ("none", "INSTALLATION_DISABLED", "true"),
    ],
)
def test_each_driver_mode_asks_gke_for_what_it_needs(driver, asked, label):
    node = deploy(stack(gpu_pool__driver=driver))[0].of(POOL)["gke-dev-gpu-g1"]["nodeConfig"]
    (device,) = node["guestAccelerators"]
    assert device["type"] == "nvidia-tesla-t4"
    assert device["gpuDriverInstallationConfig"] == {"gpuDriverVersion": asked}
    assert node["labels"].get("gke-no-default-nvidia-gpu-device-plugin") == label


def test_only_mode_daemonset_installs_and_exactly_the_pinned_driver():
    assert not _installers(stack())
    ((pod,),) = [_installers(stack(gpu_pool__driver="daemonset", gpu_pool__driver_version="580.95.05"))]
    (installer,) = pod["initContainers"]
    assert installer["command"][-1] == "--version=580.95.05"
    assert pod["automountServiceAccountToken"] is False


def _installers(service):
    sets = [one for one in deploy(service)[0].resources if one.typ == "kubernetes:apps/v1:DaemonSet"]
    return [one.inputs["spec"]["template"]["spec"] for one in sets]


def test_the_kubeconfig_asks_for_a_token_and_holds_none():
    document = json.loads(deploy(stack())[1]["kubeconfig"])
    (user,) = document["users"]
    assert user["user"]["exec"]["command"] == "gke-gcloud-auth-plugin"
    assert set(user["user"]) == {"exec"}


@pytest.mark.parametrize(
    ("endpoint", "server"),
    [("dns", "gke-1.us-central1.gke.goog"), ("public", "192.0.2.1"), ("private", "172.16.80.2")],
)
def test_the_kubeconfig_leads_to_the_endpoint_of_the_stack(endpoint, server):
    _, outputs = deploy(stack(endpoint=endpoint))
    (cluster,) = json.loads(outputs["kubeconfig"])["clusters"]
    assert cluster["cluster"]["server"] == f"https://{server}"
    assert ("certificate-authority-data" in cluster["cluster"]) is (endpoint != "dns")


def test_another_kubeconfig_reaches_the_provider_as_a_path_without_its_credentials(tmp_path):
    file = tmp_path / "kubeconfig"
    file.write_text("token: canary")
    config = {"gcp:project": "p", "gcp:region": "us-central1", "ai-assist:kubeconfig": str(file)}
    recorder, outputs = deploy(stack(), config)
    assert outputs["provider_kubeconfig"] == str(file)
    assert "canary" not in str([resource.inputs for resource in recorder.resources])


@pytest.mark.parametrize(
    ("config", "remedy"),
    [
        ({}, "pulumi config set gcp:project YOUR-PROJECT-ID --stack gke-dev"),
        ({"gcp:project": "p"}, "pulumi config set gcp:region us-central1 --stack gke-dev"),
        ({"gcp:project": "p", "gcp:region": "europe-west4"}, "zones are in us-central1"),
        (
            {"gcp:project": "p", "gcp:region": "us-central1", "ai-assist:kubeconfig": "/nowhere"},
            "pulumi config rm kubeconfig",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_the_command_that_mends_it(config, remedy):
    with pytest.raises(pulumi.RunError, match="(?s).*" + remedy.replace(".", r"\.")):
        deploy(stack(), config)
