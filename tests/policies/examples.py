"""For every rule what it refuses and what it lets pass, as the inputs of real resources."""

import copy
from typing import Any

Example = tuple[str, str, dict[str, Any]]
LABELS = {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "ai-assist"}
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
INGRESS = "kubernetes:networking.k8s.io/v1:Ingress"
BUDGET = "kubernetes:policy/v1:PodDisruptionBudget"
POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
CLUSTER = "gcp:container/cluster:Cluster"
POOL = "gcp:container/nodePool:NodePool"
DIGEST = f"web@sha256:{'a' * 64}"
_API = {"apps/v1": "apps/v1", "core/v1": "v1", "policy/v1": "policy/v1"}


def k8s(token: str, name: str, spec: dict[str, Any], **metadata: Any) -> Example:
    group, kind = token.split(":")[1:]
    about = {"name": name, "namespace": "good", "labels": LABELS} | metadata
    props = {"apiVersion": _API.get(group, group), "kind": kind, "metadata": about, "spec": spec}
    return token, name, props


CONTAINER: dict[str, Any] = {
    "name": "web",
    "image": DIGEST,
    "resources": {side: {"cpu": "1", "memory": "1Gi"} for side in ("requests", "limits")},
    "securityContext": {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    },
    "livenessProbe": {"httpGet": {"path": "/health/liveliness", "port": 80}},
    "env": [{"name": "ASSIST_AUTH", "value": "keys"}],
}


def deployment(name: str, pod: dict[str, Any] | None = None, **container: Any) -> Example:
    """Return a good Deployment with this much changed."""
    whole = copy.deepcopy(CONTAINER) | container
    spec = {
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [whole]} | (pod or {})},
    }
    return k8s(DEPLOYMENT, name, spec)


def pool(name: str, most: int | None = 5, taints: bool = True, count: int = 1) -> Example:
    config = {"guestAccelerators": [{"type": "nvidia-tesla-t4", "count": count}]}
    if taints:
        config["taints"] = [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    props: dict[str, Any] = {"cluster": "c", "location": "us-central1-a", "nodeConfig": config}
    if most is not None:
        props["autoscaling"] = {"totalMinNodeCount": 0, "totalMaxNodeCount": most}
    return POOL, name, props


def cluster(name: str, protected: bool = True, labels: bool = True) -> Example:
    labelled = {"resourceLabels": {"part-of": "ai-assist"}} if labels else {}
    return CLUSTER, name, {"location": "us-central1-a", "deletionProtection": protected} | labelled


def _ingress(name: str, *hosts: str) -> Example:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec = {
        "rules": [{"host": "code.example", "http": {"paths": paths}}],
        "tls": [{"hosts": list(hosts), "secretName": "tls"}],
    }
    return k8s(INGRESS, name, spec)


def _service(name: str, kind: str, **metadata: Any) -> Example:
    return k8s(SERVICE, name, {"type": kind, "ports": [{"port": 80}], "selector": LABELS}, **metadata)


def _security(**changed: Any) -> dict[str, Any]:
    return {"securityContext": CONTAINER["securityContext"] | changed}


DENY_ALL = k8s(POLICY, "deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
GOOD_BUDGET = k8s(BUDGET, "budget", {"maxUnavailable": 1, "selector": {"matchLabels": LABELS}})
ALONE = {"app.kubernetes.io/name": "alone", "app.kubernetes.io/part-of": "ai-assist"}


def _without_budget() -> Example:
    token, name, props = deployment("alone")
    props["spec"]["selector"]["matchLabels"] = props["spec"]["template"]["metadata"]["labels"] = ALONE
    return token, name, props


def _elsewhere() -> Example:
    token, name, props = deployment("elsewhere")
    props["metadata"]["namespace"] = "open"
    return token, name, props


_ROOT = {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}
_KEY = {"name": "REDIS_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
FAILING: dict[str, list[Example]] = {
    "image-stays": [deployment("latest", image="web:latest"), deployment("bare", image="reg:5000/web")],
    "image-by-digest": [deployment("tagged", image="web:1.2")],
    "limited": [deployment("unlimited", resources={"requests": {"cpu": "1", "memory": "1Gi"}})],
    "unprivileged": [
        deployment("root", **_security(runAsNonRoot=False)),
        deployment("writable", **_security(readOnlyRootFilesystem=False)),
        deployment("escalating", **_security(allowPrivilegeEscalation=True)),
        deployment("capable", **_security(capabilities={"drop": ["NET_RAW"]})),
        deployment("hosted", pod=_ROOT),
        deployment("networked", pod={"hostNetwork": True}),
    ],
    "liveness-off-inference": [deployment("slow", livenessProbe={"httpGet": {"path": "/ready", "port": 80}})],
    "no-plain-secret": [deployment("leaky", env=[{"name": "REDIS_TOKEN", "value": "hunter2"}])],
    "no-open-load-balancer": [_service("open", "LoadBalancer"), _service("port", "NodePort")],
    "ingress-has-tls": [_ingress("plain", "other.example")],
    "gateway-has-auth": [deployment("anybody", env=[{"name": "ASSIST_AUTH", "value": "none"}])],
    "gpu-pool-is-tainted": [pool("untainted", taints=False)],
    "gpu-pool-is-capped": [pool("endless", most=None)],
    "production-is-protected": [cluster("unprotected", protected=False)],
    "labelled": [cluster("nameless", labels=False), k8s(POLICY, "nobodys", {"podSelector": {}}, labels={})],
    "has-disruption-budget": [_without_budget(), GOOD_BUDGET],
    "denies-by-default": [_elsewhere(), DENY_ALL],
    "within-budget": [pool("one", most=5, count=4), pool("two", most=5, count=4)],
}
PASSING: dict[str, list[Example]] = {
    "image-stays": [deployment("tag-and-digest", image=f"reg:5000/web:1.2@sha256:{'b' * 64}")],
    "image-by-digest": [deployment("pinned")],
    "limited": [deployment("bounded")],
    "unprivileged": [deployment("harmless")],
    "liveness-off-inference": [
        deployment("alive"),
        deployment("triton", livenessProbe={"httpGet": {"path": "/v2/health/live", "port": 80}}),
    ],
    "no-plain-secret": [deployment("discreet", env=[_KEY])],
    "no-open-load-balancer": [
        _service("inside", "ClusterIP"),
        _service("vpc", "LoadBalancer", annotations={"networking.gke.io/load-balancer-type": "Internal"}),
    ],
    "ingress-has-tls": [_ingress("encrypted", "code.example")],
    "gateway-has-auth": [deployment("guarded")],
    "gpu-pool-is-tainted": [pool("tainted")],
    "gpu-pool-is-capped": [pool("capped")],
    "production-is-protected": [cluster("protected")],
    "labelled": [cluster("labelled")],
    "has-disruption-budget": [deployment("budgeted"), GOOD_BUDGET],
    "denies-by-default": [deployment("fenced"), DENY_ALL],
    "within-budget": [pool("small", most=5, count=1)],
}
