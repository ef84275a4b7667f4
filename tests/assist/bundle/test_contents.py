"""The list: derived from the stack and the lock files, and the same that the targets really use."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import yaml

from assist.bundle import contents, host_packages, locks, packages, plugins, wheels
from assist.bundle.errors import BundleError
from assist.deployment import resolve
from assist.hosts.role_vars import EVERYWHERE, PACKAGES
from assist.paths import SOURCE, Paths

# `python -m infra.render` writes the manifests of stack a-b-c to a-b/c.
RENDERED = sorted(
    file.parent.relative_to(SOURCE / "manifests") for file in SOURCE.glob("manifests/*/*/kustomization.yaml")
)


def deployment(stack: str):
    return resolve(stack, Paths())


def test_the_local_target_gets_the_locks_of_every_environment_that_up_makes():
    local = deployment("tiny")
    bundled = contents.of(local)
    assert set(bundled.locks) == {
        "bootstrap.txt",
        "control.txt",
        *(lock for each in local.locks.values() for lock in each),
    }
    assert bundled.model == "tiny-codegen"
    assert bundled.packages == ("libpython3.11",)
    assert not bundled.images


def test_a_gguf_model_brings_the_lock_of_its_runtime(tmp_path):
    stack = tmp_path / "gguf.yaml"
    text = (SOURCE / "stacks/tiny.yaml").read_text().replace("name: tiny", "name: gguf")
    stack.write_text(text.replace("ctranslate2", "llama_cpp").replace("int8", "Q8_0"))
    assert "llamacpp.txt" in contents.of(deployment(str(stack))).locks


def test_an_engine_elsewhere_needs_neither_a_model_nor_triton(tmp_path):
    stack = tmp_path / "remote.yaml"
    text = (SOURCE / "stacks/tiny.yaml").read_text().replace("name: tiny", "name: remote")
    stack.write_text(text.replace("{kind: triton}", "{kind: openai, url: 'http://127.0.0.1:8080/v1'}"))
    bundled = contents.of(deployment(str(stack)))
    assert (bundled.model, bundled.packages) == ("", ())
    assert "serving.txt" not in bundled.locks


@pytest.mark.parametrize("folder", RENDERED, ids=str)
def test_the_images_are_those_of_the_rendered_manifests(folder):
    rendered = set()
    for file in (SOURCE / "manifests" / folder).glob("*.yaml"):
        rendered |= set(images_in(yaml.safe_load(file.read_text())))
    assert rendered
    assert set(contents.of(deployment("-".join(folder.parts))).images) == rendered


def images_in(node):
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "image" and isinstance(value, str))
        for value in node.values():
            yield from images_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from images_in(value)


def test_redis_is_among_the_images_where_the_cache_is_redis(tmp_path):
    stack = tmp_path / "shared.yaml"
    text = (SOURCE / "stacks/kube-local.yaml").read_text().replace("name: kube-local", "name: shared")
    stack.write_text(text + "cache: {kind: redis}\n")
    images = contents.of(deployment(str(stack))).images
    assert any(image.startswith("redis:") for image in images)


def test_a_cluster_gets_the_environments_that_its_programs_name():
    bundled = contents.of(deployment("kube-local"))
    assert {"control.txt", "infra.txt", "policies.txt"} <= set(bundled.locks)
    assert bundled.plugins
    assert not bundled.packages


def test_hosts_get_every_package_that_a_task_of_a_role_installs():
    found = set(contents.of(deployment("hosts")).packages)
    of_groups = {name for names in PACKAGES.values() for name in names}
    assert {*EVERYWHERE, *of_groups, "prometheus-node-exporter"} <= found
    assert not any("nvidia" in name for name in found)


def test_hosts_with_gpus_get_the_driver_that_the_catalogue_names(tmp_path):
    stack = tmp_path / "gpus.yaml"
    text = (SOURCE / "stacks/hosts.yaml").read_text().replace("name: hosts", "name: gpus")
    stack.write_text(
        text.replace("kind: cpu", "kind: t4").replace("precision: int8", "precision: int8_float16")
    )
    service = deployment(str(stack)).stack
    assert "nvidia-kernel-dkms" in host_packages.of(service, SOURCE / "ansible", "debian 12")


def test_a_role_that_computes_its_packages_from_a_hosts_facts_stops_the_build(tmp_path):
    tasks = tmp_path / "roles/new/tasks/main.yml"
    tasks.parent.mkdir(parents=True)
    tasks.write_text('- name: New\n  debian_packages:\n    names: "{{ new_probe.packages }}"\n')
    with pytest.raises(BundleError, match=r"role new .*vars/main\.yml"):
        host_packages.of(deployment("hosts").stack, tmp_path, "debian 12")


def test_gke_is_refused_as_it_is_never_cut_off():
    with pytest.raises(BundleError, match="target: kubernetes"):
        contents.of(deployment("gke-dev"))


def test_a_lock_file_is_read_with_its_checksums_and_without_what_other_platforms_need(tmp_path):
    lock = tmp_path / "lock.txt"
    one, two = "1" * 64, "2" * 64
    lock.write_text(
        f"# a comment\nSome_Name==1.0 \\\n    --hash=sha256:{one} \\\n    --hash=sha256:{two}\n"
        f"windows-only==2.0 ; sys_platform == 'win32' \\\n    --hash=sha256:{one}\n"
        f"linux-too==3.0 ; sys_platform == 'linux' --hash=sha256:{two}\n"
    )
    found = {package.name: package for package in locks.read([lock, lock])}
    assert set(found) == {"some-name", "linux-too"}
    assert found["some-name"].sha256 == {one, two}
    assert found["linux-too"].version == "3.0"


def test_every_lock_file_of_the_project_can_be_read():
    for file in (SOURCE / "requirements").glob("*.txt"):
        for package in locks.read([file]):
            assert package.version, package
            assert package.sha256, package


def wheel(folder: Path, name: str, content: bytes = b"") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def locked(name: str, *contents: bytes) -> locks.Locked:
    return locks.Locked(name, "1.0", frozenset(hashlib.sha256(each).hexdigest() for each in contents), "")


def test_a_wheel_that_is_kept_is_not_downloaded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "_download", lambda *_: pytest.fail("asked the index"))
    file = wheel(tmp_path / "kept", "some_name-1.0-py3-none-any.whl", b"content")
    found = wheels.gather([locked("some-name", b"content")], Paths(), file.parent)
    assert found == {"wheels/some_name-1.0-py3-none-any.whl": file}


def test_two_versions_of_a_package_are_never_asked_for_at_once():
    # pip refuses to resolve them together, though each is for an environment of its own.
    one, two, other = (
        locks.Locked(name, version, frozenset(), "") for name, version in (("a", "1"), ("a", "2"), ("b", "1"))
    )
    rounds = [
        {(each.name, each.version) for each in packages} for packages in wheels._rounds([one, two, other])
    ]
    assert rounds == [{("a", "1"), ("b", "1")}, {("a", "2")}]


@pytest.mark.parametrize(
    "name",
    [
        "some_name-1.0-py3-none-any.whl",
        "some_name-1.0-cp39-cp39-win_amd64.whl",
        "some_name-2.0-py3-none-any.whl",
    ],
)
def test_a_wheel_of_another_checksum_platform_or_version_is_never_taken(tmp_path, monkeypatch, name):
    monkeypatch.setattr(wheels, "_download", lambda *_: None)
    expected = b"other" if name.endswith("1.0-py3-none-any.whl") else b"content"
    file = wheel(tmp_path / "kept", name, b"content")
    with pytest.raises(BundleError, match=r"some-name==1\.0"):
        wheels.gather([locked("some-name", expected)], Paths(), file.parent)


def test_the_oldest_glibc_that_all_wheels_run_on_is_known(tmp_path):
    names = [
        "a-1.0-py3-none-any.whl",
        "b-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "c-1.0-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_35_x86_64.whl",
    ]
    assert wheels.needs(wheel(tmp_path, name) for name in names)[1] == "2.27"
    assert wheels.needs([tmp_path / names[0]]) == ("", "")


def test_the_sdks_name_the_plugins_and_the_cache_has_them(tmp_path, monkeypatch):
    sdk = tmp_path / "pulumi_gcp-9.37.1-py3-none-any.whl"
    with zipfile.ZipFile(sdk, "w") as archive:
        archive.writestr(
            "pulumi_gcp/pulumi-plugin.json",
            json.dumps({"resource": True, "name": "gcp", "version": "9.37.1"}),
        )
        archive.writestr("pulumi/pulumi-plugin.json", json.dumps({"resource": False}))
    named = list(plugins.named_by([sdk]))
    assert named == [plugins.Plugin("gcp", "9.37.1")]
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "home"))
    assert "pulumi plugin install resource gcp 9.37.1" in plugins.gather(named, tmp_path)[1][0]
    cached = tmp_path / "home/plugins/resource-gcp-v9.37.1/pulumi-resource-gcp"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"a program")
    found, missing = plugins.gather(named, tmp_path)
    assert not missing
    first = next(iter(found.values())).read_bytes()
    assert next(iter(plugins.gather(named, tmp_path)[0].values())).read_bytes() == first


def test_a_package_that_apt_does_not_know_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(BundleError, match="apt-get update"):
        packages.gather(("no-such-package-anywhere",), tmp_path, depends=False)


def test_llama_cpps_own_image_is_the_only_engine_on_gpus(tmp_path):
    stack = tmp_path / "gpus.yaml"
    image = f"ghcr.io/ggml-org/llama.cpp@sha256:{'a' * 64}"
    stack.write_text(
        "name: gpus\ntarget: kubernetes\nmodel: mistral-7b-instruct-Q4_K_M\nengine: {kind: openai}\n"
        "accelerator: {kind: rtx-3080, count: 2, split: layers}\n"
        f"kubernetes: {{images: {{llama_cuda: '{image}'}}, llama: {{node_selector: {{gpu: x}}}}}}\n"
    )
    images = contents.of(deployment(str(stack))).images
    assert image in images
    assert not any("triton" in each for each in images)
