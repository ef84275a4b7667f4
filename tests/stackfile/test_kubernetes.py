"""The ``kubernetes`` section: complete where a cluster is the target, refused where it is not."""

from pathlib import Path

import pytest
import yaml

from stackfile import StackFileError, load_stack

GOOD = {"name": "s", "target": "kubernetes", "model": "tiny-codegen"}
T4 = {"model": "codegen-350M-mono", "accelerator": {"kind": "t4"}}


def loaded(tmp_path: Path, **settings: object):
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(GOOD | settings))
    return load_stack(file)


def refused(tmp_path: Path, **settings: object) -> str:
    with pytest.raises(StackFileError) as caught:
        loaded(tmp_path, **settings)
    return str(caught.value)


def test_a_cluster_needs_three_lines_and_gets_every_default(tmp_path):
    service = loaded(tmp_path)
    assert service.kubernetes.namespace == "ai-assist"
    assert service.kubernetes.loader.wait_timeout_s == 900
    assert service.kubernetes.triton.startup_timeout_s == 1200


def test_the_local_target_has_no_cluster_section_and_keeps_its_loopback(tmp_path):
    service = loaded(tmp_path, target="local")
    assert service.kubernetes is None
    assert (service.gateway.host, service.triton.host) == ("127.0.0.1", "127.0.0.1")


def test_on_a_cluster_everything_listens_to_other_pods_and_triton_is_found_by_its_service(tmp_path):
    service = loaded(tmp_path)
    assert (service.gateway.host, service.gateway.metrics_host) == ("0.0.0.0", "0.0.0.0")
    assert service.triton.host == "triton"


def test_an_address_that_the_stack_names_is_kept(tmp_path):
    assert loaded(tmp_path, triton={"host": "triton.ai.svc"}).triton.host == "triton.ai.svc"


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        ("gateway", "give a tag other than latest"),
        ("registry.example:5000/gateway", "give a tag other than latest"),
        ("gateway:latest", "give a tag other than latest"),
        ("gateway@sha256:12", "write name:tag"),
        ("Gateway:1", "write name:tag"),
        ("gate way:1", "write name:tag"),
    ],
)
def test_an_image_that_moves_is_refused(tmp_path, image, remedy):
    assert remedy in refused(tmp_path, kubernetes={"images": {"gateway": image}})


@pytest.mark.parametrize(
    "image",
    [
        "gateway:0.1",
        "registry.example:5000/a/gateway:0.1",
        f"a/gateway@sha256:{'0' * 64}",
        f"g:1@sha256:{'a' * 64}",
    ],
)
def test_an_image_with_a_tag_or_a_digest_is_taken(tmp_path, image):
    assert loaded(tmp_path, kubernetes={"images": {"gateway": image}}).kubernetes.images.gateway == image


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"target": "local", "kubernetes": {}}, "remove it"),
        ({"kubernetes": {"gateway": {"replicas": 3, "max_replicas": 2}}}, "raise it or lower replicas"),
        ({"kubernetes": {"store": {"kind": "host_path"}}}, "e.g. /var/lib/ai-assist"),
        ({"kubernetes": {"store": {"path": "/srv"}}}, "set kind: host_path"),
        (
            {"kubernetes": {"shared_cluster": True, "store": {"kind": "host_path", "path": "/srv"}}},
            "set pvc",
        ),
        ({"kubernetes": {"triton": {"spare_gpus": 1}}}, "always surges"),
        (T4, "select the GPU nodes, or set store.access_mode: ReadWriteMany"),
        (
            {
                "engine": {"kind": "openai", "url": "http://llama:8080/v1"},
                "kubernetes": {"triton": {"replicas": 2}},
            },
            "engine.kind: triton only",
        ),
        ({"auth": {"mode": "none"}}, "set keys or gitlab"),
        ({"gateway": {"host": "127.0.0.1"}}, "leave it out on a cluster"),
        ({"kubernetes": {"namespace": "AI"}}, "pattern"),
        ({"kubernetes": {"gateway": {"cpu_percent": 5}}}, "greater than or equal to 10"),
        ({"kubernetes": {"replicas": 2}}, "replicas: is not a setting"),
    ],
)
def test_a_conflict_of_the_section_is_refused_with_its_remedy(tmp_path, settings, remedy):
    assert remedy in refused(tmp_path, **settings)


def test_gpus_on_one_shared_volume_are_taken_when_their_nodes_are_selected(tmp_path):
    kubernetes = {"triton": {"node_selector": {"gpu": "t4"}}}
    assert loaded(tmp_path, **T4, kubernetes=kubernetes).kubernetes.triton.node_selector == {"gpu": "t4"}


def test_on_gke_the_store_is_one_that_all_pools_mount_and_the_gpu_is_selected_by_its_label(tmp_path):
    gke = {"zones": ["us-central1-a"], "deletion_protection": False}
    kubernetes = loaded(tmp_path, **T4, target="gke", gke=gke).kubernetes
    assert (kubernetes.store.access_mode, kubernetes.store.storage_class) == ("ReadWriteMany", "standard-rwx")
    assert kubernetes.triton.node_selector == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}


def test_a_volume_for_one_node_is_refused_on_gke(tmp_path):
    gke = {"zones": ["us-central1-a"], "deletion_protection": False}
    found = refused(tmp_path, **T4, target="gke", gke=gke, kubernetes={"store": {"size_gib": 10}})
    assert "or leave store out" in found
