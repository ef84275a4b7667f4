"""What serves: Triton, the gateways, where they run and how they are replaced, looked at without an engine."""

import pytest

from infra.k8s import pods
from serving import llama_server, model_repository, tritonserver
from stackfile import StackFileError
from tests.infra.k8s.recorder import T4, deploy, stack


def test_triton_serves_what_the_init_container_prepares_with_options_that_it_knows(plain):
    waiting, preparing = plain.pod("triton")["initContainers"]
    assert "/models/tiny-codegen/current.ctranslate2-int8/manifest.json" in waiting["command"][-1]
    known = {f"--{field.replace('_', '-')}" for field in model_repository.Repository.__dataclass_fields__}
    given = [part.split("=")[0] for part in preparing["command"][4:]]
    assert set(given) <= known
    assert len(given) >= 9


def test_tritons_command_is_one_that_the_server_module_parses(plain, monkeypatch):
    seen = {}
    monkeypatch.setattr(tritonserver, "prepare", lambda python: None)
    monkeypatch.setattr(tritonserver, "sweep", lambda port: 0)
    monkeypatch.setattr(tritonserver, "command", lambda **options: seen.update(options) or (["x"], {}))
    monkeypatch.setattr(tritonserver.os, "execve", lambda *args: None)
    tritonserver.main(plain.container("triton")["command"][3:])
    assert (seen["grpc_port"], seen["http_port"], seen["metrics_port"]) == (8001, 8000, 8002)
    assert seen["gpu"] is False


def test_triton_has_20_minutes_to_start_and_leaves_the_endpoints_before_it_ends(plain):
    pod, container = plain.pod("triton"), plain.container("triton")
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1200
    leave = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > leave + 30
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_triton_is_found_through_a_headless_service_by_the_name_the_gateway_is_told(plain):
    service = plain.all("Service")["triton"]
    assert service["spec"]["clusterIP"] == "None"
    environment = {item["name"]: item.get("value") for item in plain.container("gateway")["env"]}
    assert (environment["TRITON_HOST"], environment["TRITON_PORT"]) == ("triton", "8001")


def test_triton_has_shared_memory_that_counts_as_memory(plain):
    volumes = {volume["name"]: volume for volume in plain.pod("triton")["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "256Mi"}
    assert {"name": "shm", "mountPath": "/dev/shm"} in plain.container("triton")["volumeMounts"]


def test_the_priority_class_is_used_by_what_serves(plain):
    (name,) = plain.all("PriorityClass")
    assert plain.pod("triton")["priorityClassName"] == plain.pod("gateway")["priorityClassName"] == name


def test_a_gpu_is_asked_for_tolerated_and_selected(tmp_path):
    recorder = deploy(stack(tmp_path, **T4), {})
    pod = recorder.pod("triton")
    assert recorder.container("triton")["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert "--gpu" in recorder.container("triton")["command"]
    assert "--gpus=1" in pod["initContainers"][1]["command"]


def test_only_triton_is_on_the_gpu_nodes_when_the_store_can_be_mounted_by_many(tmp_path):
    kubernetes = T4["kubernetes"] | {"store": {"access_mode": "ReadWriteMany"}}
    recorder = deploy(stack(tmp_path, **T4 | {"kubernetes": kubernetes}), {})
    for name in ("gateway", "model-loader"):
        assert not {"nodeSelector", "tolerations", "affinity"} & set(recorder.pod(name))


def test_a_volume_for_one_node_keeps_its_readers_together(plain):
    for name in ("triton", "gateway", "model-loader"):
        (term,) = plain.pod(name)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["labelSelector"]["matchLabels"] == pods.STORE_LABEL


@pytest.mark.parametrize(
    ("count", "replicas", "spare", "expected"),
    [
        (1, 1, 0, {"type": "Recreate"}),
        (1, 2, 0, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        (1, 2, 1, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
        (2, 1, 1, {"type": "Recreate"}),
        (2, 1, 2, {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
    ],
)
def test_triton_rolls_with_the_gpus_that_are_free(tmp_path, count, replicas, spare, expected):
    accelerator = {"kind": "t4", "count": count} | ({"split": "replicate"} if count > 1 else {})
    triton_pods = T4["kubernetes"]["triton"] | {"replicas": replicas, "spare_gpus": spare}
    settings = T4 | {"accelerator": accelerator, "kubernetes": {"triton": triton_pods}}
    recorder = deploy(stack(tmp_path, **settings), {})
    assert recorder.all("Deployment")["triton"]["spec"]["strategy"] == expected


def test_the_autoscaler_alone_sets_the_gateways_replicas(plain):
    assert "replicas" not in plain.all("Deployment")["gateway"]["spec"]
    scaler = plain.all("HorizontalPodAutoscaler")["gateway"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 6)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 80


def test_a_fixed_number_of_gateways_needs_no_autoscaler(tmp_path):
    recorder = deploy(stack(tmp_path, kubernetes={"gateway": {"replicas": 3, "max_replicas": 3}}), {})
    assert recorder.all("Deployment")["gateway"]["spec"]["replicas"] == 3
    assert not recorder.all("HorizontalPodAutoscaler")


def test_the_gateway_has_time_to_drain_and_is_spread(plain):
    pod = plain.pod("gateway")
    assert pod["terminationGracePeriodSeconds"] >= 5 + 30
    assert {c["topologyKey"] for c in pod["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }


def test_the_openai_engine_needs_no_triton(tmp_path):
    engine = {"kind": "openai", "url": "https://llm.example/v1"}
    recorder = deploy(stack(tmp_path, engine=engine), {"engine_key": "sk"})
    assert "triton" not in recorder.all("Deployment")
    assert recorder.all("Secret")["gateway-settings"]["stringData"] == {"ASSIST_ENGINE_KEY": "sk"}


def test_without_an_address_the_openai_engine_is_llama_cpps_server_in_the_cluster(tmp_path):
    settings = {"engine": {"kind": "openai"}, "model": "mistral-7b-instruct-Q2_K"}
    recorder = deploy(stack(tmp_path, **settings | {"serving": {"slots": 2}}), {})
    assert "triton" not in recorder.all("Deployment")
    program = recorder.container("llama")["command"]
    assert program[3] == "/models/mistral-7b-instruct-Q2_K/current"
    assert vars(llama_server._arguments(program[3:]))["alias"] == "mistral-7b-instruct-Q2_K"
    environment = {item["name"]: item.get("value") for item in recorder.container("gateway")["env"]}
    (port,) = recorder.all("Service")["llama"]["spec"]["ports"]
    assert environment["ASSIST_ENGINE_URL"] == f"http://llama:{port['port']:.0f}/v1"
    gateway, monitoring = recorder.all("NetworkPolicy")["llama"]["spec"]["ingress"]
    assert gateway["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "gateway"
    assert "namespaceSelector" in monitoring["from"][0]
    assert "livenessProbe" not in recorder.container("llama")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"engine": {"kind": "openai"}, "runtime": "ctranslate2"}, "set runtime: llama_cpp"),
        ({"engine": {"kind": "openai"}, "runtime": "llama_cpp", "precision": "Q8_0"}, "format is gguf"),
        (
            {"engine": {"kind": "openai"}, "runtime": "llama_cpp", "accelerator": {"kind": "t4"}},
            "set kind: cpu",
        ),
        ({"kubernetes": {"llama": {"slots": 2}}}, "remove it"),
    ],
)
def test_settings_that_llama_cpps_server_cannot_obey_are_refused(tmp_path, settings, remedy):
    with pytest.raises(StackFileError, match=remedy):
        stack(tmp_path, **settings)


CUDA_IMAGE = f"ghcr.io/ggml-org/llama.cpp@sha256:{'a' * 64}"


@pytest.mark.parametrize("count", [1, 2])
def test_on_gpus_the_engine_is_llama_cpps_own_image_with_all_layers_on_them(tmp_path, count):
    accelerator = {"kind": "rtx-3080", "count": count} | ({"split": "layers"} if count > 1 else {})
    settings = {
        "engine": {"kind": "openai"},
        "model": "mistral-7b-instruct-Q4_K_M",
        "accelerator": accelerator,
    }
    kubernetes = {"images": {"llama_cuda": CUDA_IMAGE}, "llama": {"node_selector": {"gpu": "x"}}}
    resolved = stack(tmp_path, **settings | {"kubernetes": kubernetes})
    recorder = deploy(resolved, {})
    server, pod = recorder.container("llama"), recorder.pod("llama")
    program, *rest = server["command"]
    options = dict(zip(rest[:-3:2], rest[1:-3:2], strict=True))
    assert (server["image"], program) == (CUDA_IMAGE, "/app/llama-server")
    assert rest[-3:] == ["--swa-full", "--metrics", "--no-slots"]
    assert (options["--cache-ram"], options["--ctx-checkpoints"]) == ("0", "0")
    file = resolved.model.files[0].path
    assert options["--model"] == f"/models/mistral-7b-instruct-Q4_K_M/current/{file}"
    assert options["--ctx-size"] == str(resolved.context_length * resolved.serving.slots)
    assert options["--parallel"] == str(resolved.serving.slots)
    assert (options["--n-gpu-layers"], options["--split-mode"]) == ("999", "layer" if count > 1 else "none")
    assert options.get("--tensor-split") == ("1,1" if count > 1 else None)
    assert server["resources"]["limits"]["nvidia.com/gpu"] == str(count)
    assert server["resources"]["limits"]["memory"] == f"{resolved.memory.engine_mib}Mi"
    assert "nvidia.com/gpu" not in pod["initContainers"][0]["resources"]["limits"]
    assert (pod["nodeSelector"], pod["tolerations"][0]["key"]) == ({"gpu": "x"}, "nvidia.com/gpu")
    assert recorder.all("Deployment")["llama"]["spec"]["strategy"] == {"type": "Recreate"}
    assert "requests_(processing|deferred)" in server["lifecycle"]["preStop"]["exec"]["command"][-1]
