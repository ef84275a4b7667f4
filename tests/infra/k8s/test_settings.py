"""A setting that reaches no resource is a promise nobody keeps: every one is changed in turn and looked for."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stackfile import ResolvedStack
from tests.infra.k8s.recorder import deploy, stack

# What the workloads have no part in: `gke` is the cluster's (tests/infra/gcp), `target` chooses the program's branch.
SECTIONS = ("engine", "serving", "triton", "gateway", "limits", "auth", "cache", "kubernetes")
SINGLE = ("name", "runtime", "precision", "context_length", "model.id", "model.revision", "accelerator.count")
# Read in another mode only, so tried on a stack in that mode.
OPENAI = {"engine": {"kind": "openai", "url": "https://llm.example/v1"}}
LLAMA = {"engine": {"kind": "openai"}, "model": "mistral-7b-instruct-Q2_K"}
LLAMA_GPU = LLAMA | {
    "accelerator": {"kind": "rtx-3080", "count": 2, "split": "layers"},
    "kubernetes": {
        "images": {"llama_cuda": f"ghcr.io/ggml-org/llama.cpp@sha256:{'a' * 64}"},
        "llama": {"node_selector": {"gpu": "x"}},
    },
}
VOLUME = {"kubernetes": {"store": {"storage_class": "fast"}}}
EVERYTHING = {
    "auth": {"mode": "gitlab"},
    "cache": {"kind": "redis"},
    "model": "codegen-350M-mono",
    "accelerator": {"kind": "t4", "count": 2, "split": "replicate"},
    "kubernetes": {
        "registry": "registry.example",
        "store": {"kind": "host_path", "path": "/srv"},
        "triton": {"node_selector": {"gpu": "t4"}, "replicas": 2},
        "loader": {
            "https_proxy": "http://proxy.example:3128",
            "no_proxy": "localhost",
            "package_index": "https://index.example:8443/simple",
        },
        "ingress": {
            "host": "code.example",
            "class_name": "nginx",
            "tls_secret": "tls",
            "annotations": {"a": "b"},
        },
        "monitoring": {"service_monitor": True},
    },
}
SECRETS = {"deploy_token_user": "u", "deploy_token": "t", "redis_password": "p", "engine_key": "k"}
OTHER = {
    "kubernetes.store.kind": "pvc",
    "kubernetes.store.access_mode": "ReadWriteMany",
    "kubernetes.triton.spare_gpus": 2,
    "kubernetes.loader.https_proxy": "http://proxy.example:3129",
    "kubernetes.loader.package_index": "https://index.example:8444/simple",
    "kubernetes.llama": {"replicas": 2},
    "kubernetes.llama.spare_gpus": 2,
    "kubernetes.images.llama_cuda": f"ghcr.io/ggml-org/llama.cpp@sha256:{'b' * 64}",
    "engine.kind": "openai",
    "auth.mode": "keys",
    "cache.kind": "local",
    "runtime": "llama_cpp",
    "serving.intra_threads": 7,
}


def leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value and not path.endswith(("annotations", "node_selector")):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path


def changed(service: ResolvedStack, path: str) -> ResolvedStack:
    document = service.model_dump(mode="json")
    *parents, last = path.split(".")
    place = document
    for part in parents:
        place = place[part]
    place[last] = OTHER.get(path, _another(place[last]))
    return ResolvedStack.model_validate_json(json.dumps(document))


def _another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str() if ":" in value and "://" not in value:
            return value + "1"
        case str():
            return value + "x"
        case dict():
            return {"another": "one"}
    return "other"


def registered(service: ResolvedStack) -> str:
    resources = deploy(service, SECRETS).resources
    return json.dumps(sorted(((r.typ, r.name, r.inputs) for r in resources), key=str), default=str)


@pytest.fixture
def services(tmp_path) -> list[tuple[ResolvedStack, str]]:
    found = []
    for settings in (EVERYTHING, OPENAI, VOLUME, LLAMA_GPU, LLAMA):
        service = stack(tmp_path, **settings)
        found.append((service, registered(service)))
    return found


def test_every_setting_of_a_stack_changes_what_is_registered(services):
    document = services[0][0].model_dump(mode="json")
    paths = [path for part in SECTIONS for path in leaves(document[part], part)]
    llama = services[-1][0].model_dump(mode="json")["kubernetes"]["llama"]
    paths += leaves(llama, "kubernetes.llama")
    # A limit that a stack sets has been taken over into the section memory when the stack was read.
    paths = [path for path in paths if not path.endswith(".memory_mib")]
    paths += [f"memory.{process}_mib" for process in ("loader", "gateway", "engine")]
    assert len(paths) > 60
    dead = []
    for path in [*SINGLE, *paths]:
        able = services[-2:] if path.startswith("kubernetes.llama.") else services
        tried = (registered(changed(service, path)) != before for service, before in able)
        if not any(tried):
            dead.append(path)
    assert dead == []
