"""The service on a real node, from `pulumi up` to an editor's answer and back to nothing."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stackfile import load_stack
from stackfile.version import VERSION
from testing.gcp.double import Double
from testing.gcp.whole import STACK as GKE_DEV
from testing.gcp.whole import cluster as cluster_of
from testing.gcp.whole import on_google
from tests.integration.gcp.conftest import double, google
from tests.integration.node import images
from tests.integration.node.cluster import Node, until
from tests.integration.node.conftest import GPULESS
from tests.integration.node.hub import CATALOGUE, MODEL, Hub
from tests.integration.node.service import HOST, NAMESPACE, PORT, STACK, Deployed

__all__ = ["double", "google"]
pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(2400)]

FULL_CONTEXTS = Path(__file__).with_name("full_contexts.py").read_text()
T4 = {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}


@pytest.mark.parametrize(
    ("name", "module", "part"),
    [
        ("gateway", "gateway.app", "fastapi"),
        ("loader", "model_loader.cli", "safetensors"),
        ("triton", "serving.llama_server", "nvidia-pytriton"),
    ],
)
def test_an_image_runs_as_its_own_user_and_lists_its_parts(references, name, module, part):
    with images.store() as store:
        image = f"{images.REGISTRY}/{name}:{VERSION}"
        assert store.inside(image, "id", "-u") == "10001"
        store.inside(image, "python", "-c", f"import {module}; {images.ALL_COMPILED}")
        listed = json.loads(store.inside(image, "cat", "/opt/venv/sbom.cdx.json"))
    assert listed["bomFormat"] == "CycloneDX"
    assert part in {component["name"] for component in listed["components"]}


def test_an_editor_gets_a_completion_through_the_service(deployed: Deployed):
    deployed.edit("first")
    got = deployed.stop("first")
    assert got["failed"] == []
    (text,) = got["texts"]
    assert text.strip(), "tiny-codegen has an answer to that prompt, always the same"


def test_pods_have_the_declared_memory_and_live_through_full_contexts_in_every_slot(deployed: Deployed):
    stack = load_stack(deployed.file)
    declared = {
        "triton": stack.memory.engine_mib, "gateway": stack.memory.gateway_mib, "loader": stack.memory.loader_mib,
    }  # fmt: skip
    sizes = [str(stack.serving.slots), str(stack.context_length - 4)]
    deployed.node.python("editors", "full", FULL_CONTEXTS, HOST, str(PORT), deployed.key, *sizes)
    said = ("-n", "editors", "logs", "full")
    until("the answers", lambda: "all answered" in deployed.node.kubectl(*said), patience_s=1200)
    for part, mib in declared.items():
        pods = deployed.pods(part).values()
        assert pods, part
        for pod in pods:
            (container,) = pod["spec"]["containers"]
            for kind in ("requests", "limits"):
                assert container["resources"][kind]["memory"] == f"{mib}Mi"
            assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]


def test_a_quarter_less_memory_is_refused_before_anything_changes(deployed: Deployed):
    before, mib = deployed.file.read_text(), load_stack(deployed.file).memory.engine_mib
    deployed.change(kubernetes={"triton": {"memory_mib": mib * 3 // 4}})
    done = deployed.workspace.pulumi("preview", "--stack", STACK)
    deployed.file.write_text(before)
    assert done.returncode != 0
    assert f"{mib * 3 // 4} MiB is too little" in done.stdout + done.stderr


def test_the_node_kills_a_pod_that_takes_more_than_its_limit(node: Node):
    """Else no pod's survival would prove anything."""
    greedy = (
        "import os, time\nwhile not os.path.exists('/tmp/go'):\n    time.sleep(0.1)\n"
        "print(len(bytearray(os.urandom(2**20)) * 512))"
    )
    node.python("editors", "greedy", greedy)
    node.kubectl("-n", "editors", "exec", "greedy", "--", "touch", "/tmp/go")

    def reason() -> str | None:
        (pod,) = node.get("-n", "editors", "pods", "-l", "app=greedy")
        (status,) = pod["status"]["containerStatuses"]
        return status["state"].get("terminated", {}).get("reason")

    assert until("the pod's end", reason) == "OOMKilled"


def test_a_second_up_changes_nothing_and_takes_a_restart_by_hand_for_no_drift(deployed: Deployed):
    old = deployed.pods("gateway")
    rollout = ["-n", NAMESPACE, "rollout"]
    deployed.node.kubectl(*rollout, "restart", "deployment/gateway")
    deployed.up("--expect-no-changes")
    # A Deployment in the middle of its roll would be reported as unhealthy.
    deployed.node.kubectl(*rollout, "status", "deployment/gateway", "--timeout=280s")
    deployed.pulumi("preview", "--refresh", "--expect-no-changes")
    until("the old pods' end", lambda: not set(old) & set(deployed.pods("gateway")))


@pytest.fixture(scope="module")
def asked(deployed: Deployed, node: Node) -> Deployed:
    """Put pods that belong to nobody where connections are tried from."""
    node.python("editors", "outsider")
    node.python("monitoring", "prometheus")
    node.python(NAMESPACE, "stranger")
    until("the stranger's rules", lambda: node.enforces(NAMESPACE, "stranger"))
    return deployed


@pytest.mark.parametrize(
    ("namespace", "pod", "host", "port", "expected"),
    [
        ("editors", "outsider", "gateway", 5000, True),
        ("editors", "outsider", "gateway", 8082, False),
        ("editors", "outsider", "triton", 8001, False),
        ("monitoring", "prometheus", "gateway", 8082, True),
        ("monitoring", "prometheus", "triton", 8002, True),
        ("monitoring", "prometheus", "triton", 8001, False),
        (NAMESPACE, "stranger", "gateway", 5000, False),
        (NAMESPACE, "stranger", "triton", 8001, False),
        (NAMESPACE, "deploy/gateway", "triton", 8001, True),
        (NAMESPACE, "deploy/gateway", "triton", 8000, False),
        (NAMESPACE, "deploy/gateway", "metrics-server.kube-system", 443, False),
        (NAMESPACE, "deploy/triton", "gateway", 5000, False),
    ],
)
def test_only_listed_connections_come_about(asked: Deployed, namespace, pod, host, port, expected):
    name = host if "." in host else f"{host}.{NAMESPACE}"
    # On a busy machine an allowed connection may take long; a forbidden one never comes about.
    within_s = 60 if expected else 3
    assert asked.node.reaches(namespace, pod, f"{name}.svc", port, within_s) is expected


def test_a_new_model_rolls_in_under_constant_requests_though_its_loader_is_killed(deployed: Deployed):
    serving = deployed.pods("gateway") | deployed.pods("triton")
    old_jobs = deployed.pods("loader")
    deployed.edit("rolling")
    # So little CPU that the loader is still starting when it is found.
    deployed.change(precision="float32", kubernetes={"loader": {"cpu_m": 100}})
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(_kill_loader, deployed, set(old_jobs))
        deployed.up()
        killed.result()
    # How many gateways there are is the scaler's to say, so `up` ends with the first new one.
    until("all to be new", lambda: not set(serving) & set(deployed.pods("gateway") | deployed.pods("triton")))
    got = deployed.stop("rolling")
    assert got["failed"] == [], got
    (job,) = deployed.node.get("-n", NAMESPACE, "jobs")
    assert (job["status"]["succeeded"], job["status"]["failed"]) == (1, 1)


def _kill_loader(deployed: Deployed, known: set[str]) -> None:
    def running() -> str | None:
        for name, pod in deployed.pods("loader").items():
            states = [status["state"] for status in pod["status"].get("containerStatuses", [])]
            if name not in known and any("running" in state for state in states):
                return name
        return None

    name = until("the new model's loader", running)
    deployed.node.kubectl("-n", NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force")


def test_the_gateways_scale_out_above_their_share_of_the_cpu(deployed: Deployed):
    def scaler() -> dict[str, Any]:
        (found,) = deployed.node.get("-n", NAMESPACE, "horizontalpodautoscalers")
        return found

    spec = scaler()["spec"]
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    # Questions that the gateways answer alone: the engine's speed must not decide how busy they are.
    deployed.edit("crowd", editors=12, rest_s=0, what="look")
    until(
        "more gateways", lambda: scaler()["status"]["desiredReplicas"] > spec["minReplicas"], patience_s=300
    )
    until("their pods", lambda: len(deployed.pods("gateway")) > spec["minReplicas"])
    assert deployed.stop("crowd")["failed"] == []


def test_without_the_deploy_token_the_program_says_that_the_registry_refused(deployed: Deployed):
    document = {key: value for key, value in deployed.document.items() if key not in {"name", "serving"}}
    document["engine"] = {"kind": "openai", "url": "http://llm.example/v1"}
    ours = document["kubernetes"]["images"]
    document["kubernetes"] = {
        "namespace": "tokenless",
        "images": ours,
        "loader": {"wait_timeout_s": 30, "retries": 0},
    }
    workspace = deployed.workspace
    workspace.stack("tokenless", **document)
    # Interrupted as a user does who has read it: what else it would wait for cannot come either.
    seen = workspace.interrupted_up("tokenless", "creating failed")
    workspace.pulumi("destroy", "--yes", "--skip-preview", "--stack", "tokenless")
    (finding,) = [line for line in seen.splitlines() if "[ErrImagePull]" in line and "loader" in line][:1]
    assert ours["loader"] in finding
    # As containerd 1 or 2 says it.
    assert "401 Unauthorized" in finding or "may require authorization" in finding


def test_with_one_gpu_a_roll_ends_instead_of_waiting_for_a_second(deployed: Deployed, references):
    deployed.node.one_gpu()
    gpuless = {"triton": references[GPULESS]}
    deployed.change(
        accelerator={"kind": "t4"}, kubernetes={"images": gpuless, "triton": {"node_selector": T4}}
    )
    deployed.up()
    first = deployed.only_pod("triton")
    assert first["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    deployed.change(serving={"max_queue_delay_us": 4000})
    deployed.up()
    second = deployed.only_pod("triton")
    assert second["metadata"]["name"] != first["metadata"]["name"]
    # They were not ready while nothing could answer, and learn of it at their next probe.
    deployed.node.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/gateway", "--timeout=280s")
    deployed.edit("gpu")
    assert deployed.stop("gpu")["failed"] == []


def test_destroy_leaves_nothing(deployed: Deployed):
    deployed.pulumi("destroy", "--yes", "--skip-preview")
    assert deployed.workspace.left() == []
    assert deployed.node.get("-n", NAMESPACE, "pods") == []
    listed = json.loads(deployed.workspace.pulumi("stack", "export", "--stack", STACK).stdout)
    assert not listed["deployment"].get("resources", [])[1:], "nothing but the stack itself"


def test_gke_dev_is_one_command_from_an_empty_project_to_an_answer_and_one_back(
    node: Node, references, double: Double, tmp_path: Path
):
    """Google is the double, and the node has the GPU that is none: the engine runs in its CPU precision."""
    node.one_gpu()
    ours = {name: references[name] for name in ("gateway", "loader")} | {"triton": references[GPULESS]}
    gke = Deployed(node, ours, tmp_path, GKE_DEV)
    small = {"gateway": {"cpu_m": 200}, "triton": {"cpu_m": 500}}
    gke.change(model="tiny-codegen", precision="int8", kubernetes=small)
    on_google(gke.workspace, double)
    try:
        gke.up()
        assert double.exists(cluster_of(double))
        gke.edit("google")
        got = gke.stop("google")
        assert got["failed"] == []
        assert got["texts"][0].strip()
        gke.pulumi("preview", "--refresh", "--expect-no-changes")
        gke.pulumi("destroy", "--yes", "--skip-preview")
        assert not double.exists(cluster_of(double))
        assert gke.workspace.left() == []
    finally:
        gke.close()


def test_personal_gpt_answers_though_its_loader_was_killed_in_the_middle_of_the_model(
    node: Node, references, tmp_path: Path
):
    """The repository's own stack with a small model. Nothing destroys it: the cluster ends with this test."""
    hub = Hub(node, tmp_path / "hub")
    ours = {name: references[name] for name in ("gateway", "triton")} | {"loader": hub.loader()}
    gpt = Deployed(node, ours, tmp_path, "personal-gpt-cpu")
    shutil.copy(hub.catalogue, gpt.workspace.project / CATALOGUE)
    small = {"gateway": {"cpu_m": 200}, "llama": {"cpu_m": 500}}
    gpt.change(model=MODEL, kubernetes=small | {"store": {"size_gib": 1}})
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(lambda: until("half of the model", hub.answers) and _kill_loader(gpt, set()))
        gpt.up()
        killed.result()
    size = hub.file.stat().st_size
    first, second = hub.answers()
    assert first == {"start": 0, "sent": size // 2}
    # What was still on its way to the dead pod is all that is sent twice.
    assert size // 2 - 64 * 1024 <= second["start"] <= size // 2
    assert second["start"] + second["sent"] == size
    for what in ("complete", "stream", "chat"):
        gpt.edit(what, what=what)
    whole, streamed, chat = (gpt.stop(what) for what in ("complete", "stream", "chat"))
    assert whole["failed"] == streamed["failed"] == chat["failed"] == []
    # The template adds nothing to the one message, which is the prompt of the others.
    assert whole["texts"] == streamed["texts"] == chat["texts"] != [""]
