"""What the components register, looked at without an engine."""

import base64
import json

from typer.testing import CliRunner

from infra.k8s import pods
from model_loader import cli as loader_cli
from tests.infra.k8s.recorder import deploy, stack

REGISTRY = {"kubernetes": {"registry": "registry.example"}}


def test_every_object_has_an_explicit_provider_and_its_component_as_parent(plain):
    objects = {key: urn for key, urn in plain.urns.items() if key.startswith("kubernetes:")}
    assert len(objects) > 15
    for urn in objects.values():
        # A child that got its component's own options would be a child of Workloads, or of nothing.
        component = urn.split("::")[2].split("$")[0]
        assert component.startswith("ai-assist:k8s:"), urn
        assert component != "ai-assist:k8s:Workloads", urn
    registered = [r for r in plain.resources if r.typ.startswith("kubernetes:")]
    assert all("cluster" in r.provider for r in registered)


def test_every_object_is_in_the_namespace_and_labelled_for_teardown_and_cost(plain):
    for item in plain.objects():
        assert item["metadata"]["labels"]["app.kubernetes.io/part-of"] == "ai-assist"
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "s"
        if item["kind"] not in {"Namespace", "PriorityClass", "PersistentVolume"}:
            assert item["metadata"]["namespace"] == "ai-assist", item["kind"]


def test_the_namespace_enforces_the_restricted_pod_security_standard(plain):
    labels = plain.all("Namespace")["ai-assist"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_a_shared_cluster_gets_no_object_that_its_owner_makes(tmp_path):
    kinds = {i["kind"] for i in deploy(stack(tmp_path, kubernetes={"shared_cluster": True}), {}).objects()}
    assert not kinds & {"Namespace", "PriorityClass", "ResourceQuota", "LimitRange", "PersistentVolume"}
    assert {"Deployment", "Job", "NetworkPolicy"} <= kinds


def test_the_pull_secret_is_made_from_the_deploy_token_and_every_pod_uses_it(tmp_path):
    recorder = deploy(stack(tmp_path, **REGISTRY), {"deploy_token_user": "bot", "deploy_token": "t0ken"})
    secret = recorder.all("Secret")["gitlab-registry"]
    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    login = json.loads(secret["stringData"][".dockerconfigjson"])["auths"]["registry.example"]
    assert base64.b64decode(login["auth"]) == b"bot:t0ken"
    for name in ("triton", "gateway", "model-loader-job"):
        assert recorder.pod(name)["imagePullSecrets"] == [{"name": "gitlab-registry"}]


def test_without_a_registry_there_is_no_pull_secret(plain):
    assert "gitlab-registry" not in plain.all("Secret")
    assert "imagePullSecrets" not in plain.pod("gateway")


def test_the_store_is_a_claim_of_the_clusters_default_class(plain):
    spec = plain.all("PersistentVolumeClaim")["model-store"]["spec"]
    assert spec["resources"]["requests"]["storage"] == "20Gi"
    assert "storageClassName" not in spec


def test_a_host_path_is_a_volume_of_its_own_and_no_pod_mounts_it_directly(tmp_path):
    store = {"kind": "host_path", "path": "/var/lib/ai-assist"}
    recorder = deploy(stack(tmp_path, kubernetes={"store": store}), {})
    (volume,) = recorder.all("PersistentVolume").values()
    assert volume["spec"]["hostPath"]["path"] == "/var/lib/ai-assist"
    assert (
        recorder.all("PersistentVolumeClaim")["model-store"]["spec"]["volumeName"]
        == volume["metadata"]["name"]
    )
    assert "hostPath" not in json.dumps(
        [recorder.pod(name) for name in ("triton", "gateway", "model-loader")]
    )


def test_the_loader_runs_a_command_that_the_loader_understands(plain, tmp_path):
    program, *arguments = plain.container("model-loader")["command"]
    assert program == "model-loader"
    here = [str(tmp_path / "store") if part == pods.STORE_PATH else part for part in arguments]
    ran = CliRunner().invoke(loader_cli.app, [*here, "--dry-run"])
    assert ran.exit_code == 0, ran.output
    assert "tiny-codegen" in ran.output


def test_the_loader_resumes_in_place_and_a_failed_job_does_not_block_the_next_up(plain):
    (job,) = plain.all("Job").values()
    assert job["spec"]["backoffLimit"] == 10
    assert "ttlSecondsAfterFinished" not in job["spec"], "its absence would look like drift"
    assert plain.pod("model-loader")["restartPolicy"] == "OnFailure"
    assert job["metadata"]["annotations"]["pulumi.com/replaceUnready"] == "true"


def test_another_model_is_another_job_and_the_same_model_the_same(tmp_path):
    names = [
        next(iter(deploy(stack(tmp_path, model=model), {}).all("Job")))
        for model in ("tiny-codegen", "tiny-codegen", "codegen-350M-mono")
    ]
    assert names[0] == names[1] != names[2]


def test_only_the_loader_can_write_to_the_store(plain):
    for name, expected in (("triton", True), ("gateway", True), ("model-loader", False)):
        mounts = {mount["name"]: mount for mount in plain.container(name)["volumeMounts"]}
        assert mounts["store"]["readOnly"] is expected


def test_no_container_may_write_to_its_root_or_gain_a_privilege(tmp_path):
    recorder = deploy(stack(tmp_path, cache={"kind": "redis"}), {"redis_password": "x"})
    for name in ("triton", "gateway", "model-loader", "redis"):
        pod = recorder.pod(name)
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["limits"]["ephemeral-storage"]


def test_redis_and_its_secret_address_exist_only_where_the_stack_asks(tmp_path, plain):
    assert "redis" not in plain.all("Deployment")
    recorder = deploy(stack(tmp_path, cache={"kind": "redis"}), {"redis_password": "pw"})
    assert "user default on >pw " in recorder.all("Secret")["redis-config"]["stringData"]["redis.conf"]
    url = recorder.all("Secret")["gateway-settings"]["stringData"]["ASSIST_REDIS_URL"]
    assert url == "redis://:pw@redis:6379/0"
    (reference,) = [e for e in recorder.container("gateway")["env"] if e["name"] == "ASSIST_REDIS_URL"]
    assert reference["valueFrom"]["secretKeyRef"]["name"] == "gateway-settings"


def test_without_our_secrets_the_pods_refer_to_those_that_others_make(tmp_path):
    recorder = deploy(stack(tmp_path, cache={"kind": "redis"}), None)
    assert not recorder.all("Secret")
    assert "redis" in recorder.all("Deployment")
    assert any(e["name"] == "ASSIST_REDIS_URL" for e in recorder.container("gateway")["env"])


def test_an_ingress_has_tls_always_and_appears_only_when_asked_for(tmp_path, plain):
    assert not plain.all("Ingress")
    settings = {"host": "code.example", "class_name": "nginx", "tls_secret": "code-tls"}
    recorder = deploy(stack(tmp_path, kubernetes={"ingress": settings}), {})
    spec = recorder.all("Ingress")["gateway"]["spec"]
    assert spec["tls"] == [{"hosts": ["code.example"], "secretName": "code-tls"}]


def test_the_deadline_reaches_pods_and_ingress_and_no_pod_ends_before_its_requests(tmp_path):
    ingress = {"host": "code.example", "class_name": "nginx", "tls_secret": "tls"}
    slow = stack(tmp_path, limits={"deadline_s": 400}, kubernetes={"ingress": ingress})
    recorder = deploy(slow, {})
    annotations = recorder.all("Ingress")["gateway"]["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 400
    environment = {item["name"]: item.get("value") for item in recorder.container("gateway")["env"]}
    assert (environment["ASSIST_DEADLINE_S"], environment["ASSIST_GRACE_S"]) == ("400.0", "400.0")
    assert "--exit-timeout-s=400" in recorder.container("triton")["command"]
    for name in ("gateway", "triton"):
        assert recorder.pod(name)["terminationGracePeriodSeconds"] > 400


def test_llama_cpps_server_gives_its_requests_the_deadline_too(tmp_path):
    engine = {"engine": {"kind": "openai"}, "model": "mistral-7b-instruct-Q2_K"}
    slow = stack(tmp_path, **engine, runtime="auto", precision="auto", limits={"deadline_s": 400})
    recorder = deploy(slow, {})
    assert "--drain-s=400" in recorder.container("llama")["command"]
    assert recorder.pod("llama")["terminationGracePeriodSeconds"] > 400


def test_service_monitors_are_made_only_when_the_stack_says_that_the_crds_are_there(tmp_path, plain):
    assert not plain.all("ServiceMonitor")
    recorder = deploy(stack(tmp_path, kubernetes={"monitoring": {"service_monitor": True}}), {})
    assert set(recorder.all("ServiceMonitor")) == {"gateway", "triton"}
    for component, monitor in recorder.all("ServiceMonitor").items():
        (endpoint,) = monitor["spec"]["endpoints"]
        assert {"targetLabel": "job", "replacement": component} in endpoint["relabelings"]
        assert endpoint["port"] in {
            each["name"] for each in recorder.all("Service")[component]["spec"]["ports"]
        }
    groups = recorder.all("PrometheusRule")["rules"]["spec"]["groups"]
    assert any(rule.get("alert") == "NodePoolExhausted" for group in groups for rule in group["rules"])


def test_the_services_with_metrics_say_so_to_a_prometheus_without_an_operator(plain):
    for name, port in (("gateway", 8082), ("triton", 8002)):
        annotations = plain.all("Service")[name]["metadata"]["annotations"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] == str(port)


def test_the_quota_holds_everything_at_its_largest(tmp_path):
    kubernetes = {"gateway": {"replicas": 2, "max_replicas": 4, "cpu_m": 100, "memory_mib": 1000}}
    kubernetes |= {"triton": {"cpu_m": 1000, "memory_mib": 9000}, "loader": {"cpu_m": 10, "memory_mib": 2000}}
    hard = deploy(stack(tmp_path, kubernetes=kubernetes), {}).all("ResourceQuota")["ai-assist"]["spec"][
        "hard"
    ]
    assert hard["requests.cpu"] == f"{5 * 100 + 2 * 10 + 2 * 1000}m"
    assert hard["requests.memory"] == f"{5 * 1000 + 2 * 2000 + 2 * 9000}Mi"
    assert hard["pods"] == str(5 + 2 + 2)
    assert hard["requests.ephemeral-storage"] == hard["limits.ephemeral-storage"] == f"{9 * pods.DISK_MIB}Mi"


def test_the_policies_deny_all_and_let_only_the_gateway_reach_triton(plain):
    policies = plain.all("NetworkPolicy")
    deny = policies["default-deny"]["spec"]
    assert deny["podSelector"] == {}
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"}
    grpc, metrics = policies["triton"]["spec"]["ingress"]
    (peer,) = grpc["from"]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "gateway"
    assert [port["port"] for port in grpc["ports"]] == [8001]
    assert [port["port"] for port in metrics["ports"]] == [8002]
