"""llama.cpp on GPUs: accepted where its server with CUDA is pinned, refused with the reason everywhere else."""

import re
from pathlib import Path

import pytest
import yaml

from stackfile import StackFileError, catalogue, load_stack
from stackfile.memory import Use

IMAGE = f"ghcr.io/ggml-org/llama.cpp@sha256:{'a' * 64}"
GPU = {"gpu": "yes"}
TWO = {"kind": "rtx-3080", "count": 2, "split": "layers"}
MODEL = "mistral-7b-instruct-Q4_K_M"
GKE = {"zones": ["us-central1-a"], "deletion_protection": False}
CUDA = {"images": {"llama_cuda": IMAGE}, "llama": {"node_selector": GPU}}


def stack_of(tmp_path: Path, target: str, **settings: object):
    file = tmp_path / "s.yaml"
    base = {"name": "s", "target": target, "model": MODEL, "engine": {"kind": "openai"}}
    file.write_text(yaml.safe_dump(base | settings))
    return load_stack(file)


def refused(tmp_path: Path, target: str, **settings: object) -> str:
    with pytest.raises(StackFileError) as caught:
        stack_of(tmp_path, target, **settings)
    return str(caught.value)


def test_a_cluster_spreads_a_model_over_the_gpus_of_a_node(tmp_path):
    stack = stack_of(tmp_path, "kubernetes", accelerator=TWO, kubernetes=CUDA)
    assert (stack.runtime, stack.accelerator.split) == ("llama_cpp", "layers")
    assert 0 < stack.memory.device_mib <= 10 * 1024
    one = TWO | {"count": 1, "split": None}
    alone = stack_of(tmp_path, "kubernetes", accelerator=one, kubernetes=CUDA, serving={"slots": 1})
    both = stack_of(tmp_path, "kubernetes", accelerator=TWO, kubernetes=CUDA, serving={"slots": 1})
    assert alone.memory.device_mib * 0.4 < both.memory.device_mib < alone.memory.device_mib * 0.7


def test_gke_does_so_on_its_own_nodes(tmp_path):
    accelerator = {"kind": "t4", "count": 2, "split": "layers"}
    kubernetes = {"images": {"llama_cuda": IMAGE}}
    stack = stack_of(tmp_path, "gke", accelerator=accelerator, kubernetes=kubernetes, gke=GKE)
    assert stack.kubernetes.engine.node_selector == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    assert "GKE" in refused(tmp_path, "gke", accelerator=TWO, kubernetes=kubernetes, gke=GKE)


@pytest.mark.parametrize("target", ["kubernetes", "gke"])
def test_without_the_image_the_command_that_prints_its_digest_is_named(tmp_path, target):
    gke = {"gke": GKE} if target == "gke" else {}
    found = refused(tmp_path, target, accelerator={"kind": "t4"}, **gke)
    assert "docker buildx imagetools inspect ghcr.io/ggml-org/llama.cpp:server-cuda" in found
    assert "'{{.Manifest.Digest}}'" in found


@pytest.mark.parametrize("image", ["ghcr.io/ggml-org/llama.cpp:server-cuda", "llama:1", "l@sha256:12"])
def test_an_image_without_its_digest_is_refused_with_the_command(tmp_path, image):
    found = refused(tmp_path, "kubernetes", accelerator=TWO, kubernetes={"images": {"llama_cuda": image}})
    assert "imagetools inspect" in found or "64 hex digits" in found


@pytest.mark.parametrize("target", ["local", "hosts"])
@pytest.mark.parametrize("split", [{"count": 1}, {"count": 2, "split": "layers"}], ids=["one", "layers"])
def test_where_no_image_runs_the_users_own_server_is_the_remedy(tmp_path, target, split):
    accelerator = {"kind": "rtx-3080", **split}
    found = refused(tmp_path, target, accelerator=accelerator, engine={"kind": "triton"})
    assert "engine.url of a llama.cpp server with CUDA that you run" in found
    own = {"kind": "openai", "url": "http://10.0.0.9:8080/v1"}
    if "split" in split:
        spread = refused(tmp_path, target, accelerator=accelerator, engine=own)
        assert "--split-mode layer" in spread
    else:
        assert stack_of(tmp_path, target, accelerator=accelerator, engine=own).memory.device_mib == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"accelerator": TWO | {"split": "replicate"}}, "kubernetes.llama.replicas"),
        ({"accelerator": TWO | {"count": 1}}, "needs several devices"),
        ({"accelerator": {"kind": "k80", "count": 2, "split": "layers"}}, "no code for the k80"),
        ({"accelerator": TWO, "engine": {"kind": "triton"}}, "kubernetes.images.llama_cuda"),
        ({"accelerator": {"kind": "cpu"}}, "on a GPU only; remove it"),
        ({"accelerator": TWO, "engine": {"kind": "triton"}, "model": "codegen-2B-multi"}, "under MPI"),
        (
            {"accelerator": {"kind": "rtx-3080"}, "context_length": 32768, "serving": {"slots": 9}},
            "offers 9.2 GiB",
        ),
        ({"accelerator": TWO | {"split": "tensor"}}, "'replicate' or 'layers'"),
        ({"accelerator": {"kind": "cpu", "count": 2, "split": "layers"}}, "must be 1 for a CPU"),
    ],
)
def test_what_cannot_be_spread_is_refused_with_its_remedy(tmp_path, settings, says):
    kubernetes = CUDA if settings.get("engine", {}).get("kind") != "triton" else {}
    found = refused(tmp_path, "kubernetes", **{"kubernetes": kubernetes} | settings)
    assert says in found


def test_a_store_for_one_node_needs_the_gpu_nodes_selected(tmp_path):
    found = refused(tmp_path, "kubernetes", accelerator=TWO, kubernetes={"images": {"llama_cuda": IMAGE}})
    assert re.search(r"kubernetes.llama.node_selector|node_selector.*required", found)


def used(split: int, model: str = MODEL) -> Use:
    facts = catalogue.models()[model]
    precision = next(iter(facts.memory_gib))
    return Use(facts, "llama_cpp", precision, 8192, 4, engine="llama", devices=max(split, 1), split=split)


@pytest.mark.parametrize("gpus", [2, 3, 4, 8])
def test_the_gpus_together_hold_the_model_once_and_each_its_own_buffers(gpus):
    one, shared = used(1), used(gpus)
    buffers = one.device - one.weights - one.cache
    assert shared.device < one.device
    assert gpus * (shared.device - buffers) >= one.weights + one.cache - gpus
    # No GPU has more than a layer above its equal share.
    layer = (one.weights + one.cache) / one.model.layers
    assert shared.device - buffers <= (one.weights + one.cache) / gpus + 2 * layer


def test_a_large_vocabulary_is_on_the_last_gpu_alone():
    model = "qwen2.5-coder-0.5b-instruct-Q4_K_M"
    facts = catalogue.models()[model]
    head = used(1, model).weights * facts.vocabulary * facts.width / facts.parameters
    many = used(facts.layers + 1, model)
    assert many.device >= head
    assert many.host > many.weights


@pytest.mark.parametrize("kind", [name for name in catalogue.accelerators() if name.startswith("rtx-")])
def test_a_consumer_card_is_for_machines_of_ones_own(tmp_path, kind):
    device = catalogue.accelerators()[kind]
    assert device.gke is None
    assert device.driver is not None
    kubernetes = {"triton": {"node_selector": GPU}}
    stack = stack_of(
        tmp_path, "kubernetes", model="codegen-350M-mono", engine={"kind": "triton"},
        accelerator={"kind": kind}, kubernetes=kubernetes,
    )  # fmt: skip
    assert stack.memory.device_mib < device.memory_gib * 1024
    assert stack.runtime == "ctranslate2"
