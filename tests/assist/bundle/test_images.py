"""Images: out of buildah's storage, by digest, layers once, the same files each time."""

import json
import subprocess

import pytest

from assist.bundle import images
from testing import needs

pytestmark = pytest.mark.root


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """Give buildah a storage of its own with two images that share a layer."""
    needs.program("buildah")
    needs.root("use buildah's storage")
    settings = tmp_path / "storage.conf"
    settings.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(settings))
    (tmp_path / "file").write_bytes(b"content" * 1000)
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY file /file\n")
    for name in ("localhost/a:1", "localhost/b:1"):
        build = [
            "buildah",
            "build",
            "--quiet",
            "--timestamp",
            "0",
            "--label",
            f"name={name}",
            "--tag",
            name,
            tmp_path,
        ]
        done = subprocess.run(build, capture_output=True, text=True, check=False)
        if done.returncode:
            needs.skip(f"buildah can't build here: {done.stderr.strip()[-300:]}", needs.PRIVILEGED)
    return tmp_path


def gather(folder, *names):
    folder.mkdir()
    found, missing = images.gather(names, folder)
    return {path: file.read_bytes() for path, file in found.items()}, missing


def test_images_come_with_their_digests_and_a_shared_layer_is_there_once(storage):
    files, missing = gather(storage / "first", "localhost/a:1", "localhost/b:1", "localhost/none:1")
    assert len(missing) == 1
    assert "localhost/none:1" in missing[0]
    assert "images/build" in missing[0]
    listed = {row["image"]: row["digest"] for row in json.loads(files[images.LIST])}
    assert listed["localhost/none:1"] is None
    for name in ("localhost/a:1", "localhost/b:1"):
        assert f"images/blobs/{listed[name].replace(':', '/')}" in files
    blobs = [path for path in files if path.startswith("images/blobs/")]
    assert len(blobs) == 5  # two manifests, two configurations, one layer


def test_the_same_images_give_the_same_files(storage):
    first, _ = gather(storage / "first", "localhost/a:1", "localhost/b:1")
    second, _ = gather(storage / "second", "localhost/a:1", "localhost/b:1")
    assert first == second


def test_an_image_that_is_not_ours_is_to_be_pulled(storage):
    _, missing = gather(storage / "first", "redis:7.2.5-bookworm")
    assert "buildah pull redis:7.2.5-bookworm" in missing[0]
