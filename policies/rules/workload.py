"""Rules on pods: their images, privileges, resources, probes and secrets."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .base import Resource, Rule, containers, pod_spec

# NVIDIA's driver installer loads a kernel module, which requires privileges.
_INSTALLER = ("kube-system", "nvidia-driver-installer")
_INFERENCE = re.compile(r"ready|/v2/models|/v1/|generate|infer|completion")
_SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|TOKEN|SECRET|API_KEY|_KEY|REDIS_URL)$")


def _is_installer(resource: Resource) -> bool:
    return (resource.metadata.get("namespace"), resource.metadata.get("name")) == _INSTALLER


def _name(container: Mapping[str, Any]) -> str:
    return f"container {container.get('name')}"


def image_stays(resource: Resource) -> Iterator[str]:
    """Require an immutable reference: a tag other than latest, or a digest."""
    for container in containers(resource):
        image = str(container.get("image", ""))
        tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in {"", "latest"}:
            yield f"{_name(container)} runs {image or 'no image'}: set a tag other than latest, or a digest"


def image_by_digest(resource: Resource) -> Iterator[str]:
    """Advise a digest: a registry can replace the image of a tag."""
    for container in containers(resource):
        image = str(container.get("image", ""))
        if "@sha256:" not in image:
            yield f"{_name(container)} runs {image}: pin it as name@sha256:..."


def limited(resource: Resource) -> Iterator[str]:
    """Require requests and limits, without which a container could use a whole node."""
    if _is_installer(resource):
        return
    for container in containers(resource):
        resources = container.get("resources") or {}
        for side in ("requests", "limits"):
            missing = {"cpu", "memory"} - set(resources.get(side) or {})
            if missing:
                yield f"{_name(container)} has no {side} of {', '.join(sorted(missing))}: set them"


def unprivileged(resource: Resource) -> Iterator[str]:
    """Require Pod Security ``restricted`` and a read-only root file system."""
    pod = pod_spec(resource)
    if pod is None or _is_installer(resource):
        return
    whole = pod.get("securityContext") or {}
    for container in containers(resource):
        security = container.get("securityContext") or {}
        wrong = {
            "runAsNonRoot: true": not security.get("runAsNonRoot", whole.get("runAsNonRoot")),
            "readOnlyRootFilesystem: true": not security.get("readOnlyRootFilesystem"),
            "allowPrivilegeEscalation: false": security.get("allowPrivilegeEscalation") is not False,
            "capabilities.drop: [ALL]": "ALL" not in ((security.get("capabilities") or {}).get("drop") or ()),
            "privileged: false": bool(security.get("privileged")),
        }
        for setting in (name for name, is_wrong in wrong.items() if is_wrong):
            yield f"{_name(container)}: set securityContext.{setting}"
    if any("hostPath" in volume for volume in pod.get("volumes") or ()):
        yield "mounts a directory of the node: use a PersistentVolumeClaim"
    for flag in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(flag):
            yield f"shares the node's {flag.removeprefix('host')}: remove {flag}"


def liveness_off_the_inference_path(resource: Resource) -> Iterator[str]:
    """Forbid liveness probes on the inference path: restarts of a busy server would add to its load."""
    for container in containers(resource):
        path = str(((container.get("livenessProbe") or {}).get("httpGet") or {}).get("path", ""))
        if _INFERENCE.search(path):
            yield f"{_name(container)} is killed when {path} is slow: probe a path that does no inference"


def no_plain_secret(resource: Resource) -> Iterator[str]:
    """Forbid secrets in a pod's environment, which everybody with permission to list pods can read."""
    for container in containers(resource):
        for variable in container.get("env") or ():
            if variable.get("value") and _SECRET_NAME.search(str(variable.get("name"))):
                yield f"{variable['name']} is in plain text: use a Secret (valueFrom.secretKeyRef)"


RULES = (
    Rule("image-stays", "Images have a fixed tag or a digest", image_stays),
    Rule("image-by-digest", "Images are pinned by digest", image_by_digest, "advisory"),
    Rule("limited", "Every container has requests and limits of CPU and memory", limited),
    Rule("unprivileged", "Pods meet `restricted`, with a read-only root file system", unprivileged),
    Rule(
        "liveness-off-inference", "No liveness probe on the inference path", liveness_off_the_inference_path
    ),
    Rule("no-plain-secret", "No secret in a pod's environment in plain text", no_plain_secret),
)
