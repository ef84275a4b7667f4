"""`make test-tools`: what is found, what is fetched, and that nothing wrong or half is kept."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing import tools
from testing.tools import __main__ as command
from testing.tools import download, golang
from testing.tools.kits import kits, load
from testing.tools.store import staged
from tests.testing.conftest import Pin
from tests.testing.release_server import ReleaseServer, serving

PROGRAM = b"#!/bin/sh\necho demo\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


@pytest.fixture
def encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseServer]:
    with serving(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.crt"))
        yield running


def left(cache: Path) -> list[str]:
    """Return what the cache holds but its locks."""
    return sorted(path.name for path in cache.glob("*") if not path.name.endswith(".lock"))


def test_every_pin_says_how_its_download_is_checked():
    pinned, packages = load()
    for kit in pinned.values():
        for item in kit.downloads:
            assert item.url.startswith("https://")
            assert bool(item.sha256) + bool(item.tree_sha256) + item.published.startswith("https://") == 1, (
                item
            )
        assert all(image.digest.startswith("sha256:") for image in kit.images)
        assert all(module.sum.startswith("h1:") for _, module in kit.modules)
        assert kit.downloads or kit.images or kit.debian or kit.name in golang.RECIPES
    assert len({package.name for package in packages}) == len(packages) > 20


def test_a_kit_is_found_on_path_before_the_cache(pin: Pin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = pin(folders=["inner"])
    assert tools.missing("demo") == "not found: demo; run: make test-tools"
    with staged(kits()["demo"]) as made:
        (made / "demo").write_bytes(PROGRAM)
    assert tools.missing("demo") is None
    assert tools.file("demo", "demo").parent.parent == cache
    own = tmp_path / "own/inner"
    own.mkdir(parents=True)
    (own / "demo").write_bytes(PROGRAM)
    monkeypatch.setenv("PATH", f"{own.parent}:{os.environ['PATH']}")
    assert tools.file("demo", "demo") == own / "demo"
    assert str(own) in tools.search_path().split(":")


def test_half_a_kit_on_path_is_not_mixed_with_the_other_half(
    pin: Pin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pin(files=["demo", "demo-helper"])
    (tmp_path / "demo").write_bytes(PROGRAM)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with staged(kits()["demo"]) as made:
        for name in ("demo", "demo-helper"):
            (made / name).write_bytes(PROGRAM)
    assert tools.file("demo", "demo").parent == tools.file("demo", "demo-helper").parent != tmp_path
    with pytest.raises(FileNotFoundError, match="run: make test-tools"):
        tools.file("demo", "other")


def test_a_release_is_fetched_once(pin: Pin, releases: ReleaseServer, capsys: pytest.CaptureFixture[str]):
    packed = archive(**{"demo-1.0/demo": PROGRAM, "demo-1.0/README": b"not wanted"})
    releases.files["/demo.tar.gz"] = packed
    entry = {"url": f"{releases.url}/demo.tar.gz", "sha256": sha256(packed)}
    cache = pin(downloads=[entry | {"members": {"demo-1.0/demo": "demo"}}])
    assert command.main(["--only", "demo"]) == 0
    (kit,) = left(cache)
    assert [path.name for path in (cache / kit).iterdir()] == ["demo"]
    assert subprocess.check_output([tools.file("demo", "demo")]) == b"demo\n"
    assert "downloading" in capsys.readouterr().err
    before = list(releases.requests)
    assert command.main(["--only", "demo"]) == 0
    assert releases.requests == before
    assert "nothing is missing" in capsys.readouterr().out


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(
    pin: Pin, releases: ReleaseServer, capsys: pytest.CaptureFixture[str]
):
    releases.files["/demo"] = PROGRAM + b"# changed on the way\n"
    cache = pin(downloads=[{"url": f"{releases.url}/demo", "sha256": sha256(PROGRAM)}])
    assert command.main(["--only", "demo"]) == 1
    assert f"not {sha256(PROGRAM)}; nothing of it was kept" in capsys.readouterr().err
    assert left(cache) == []


def test_a_wrong_checksum_is_no_reason_to_try_another_way(
    pin: Pin, releases: ReleaseServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(golang.RECIPES, "demo", lambda build: pytest.fail("it was built"))
    module = {"path": "example.org/demo", "version": "v1.0.0", "sum": "h1:x"}
    releases.files["/demo"] = b"another"
    cache = pin(
        downloads=[{"url": f"{releases.url}/demo", "sha256": sha256(PROGRAM)}], modules={"demo": module}
    )
    assert command.main(["--only", "demo"]) == 1
    assert left(cache) == []


def test_a_download_that_breaks_off_leaves_nothing_and_the_next_one_is_whole(
    pin: Pin, releases: ReleaseServer, capsys: pytest.CaptureFixture[str]
):
    releases.files["/demo"] = PROGRAM
    releases.broken["/demo"] = 10
    cache = pin(downloads=[{"url": f"{releases.url}/demo", "sha256": sha256(PROGRAM)}])
    assert command.main(["--only", "demo"]) == 1
    assert "broke off after" in capsys.readouterr().err
    assert left(cache) == []
    releases.broken.clear()
    assert command.main(["--only", "demo"]) == 0
    assert tools.file("demo", "demo").read_bytes() == PROGRAM


def test_what_a_killed_run_left_behind_goes_with_the_next(pin: Pin, releases: ReleaseServer):
    releases.files["/demo"] = PROGRAM
    cache = pin(downloads=[{"url": f"{releases.url}/demo", "sha256": sha256(PROGRAM)}])
    half = cache / ".demo.part-killed/made"
    half.mkdir(parents=True)
    (half / "demo").write_bytes(PROGRAM[:3])
    assert command.main(["--only", "demo"]) == 0
    assert len(left(cache)) == 1


def test_without_a_pinned_checksum_the_published_one_is_read_over_https(
    pin: Pin, encrypted: ReleaseServer, capsys: pytest.CaptureFixture[str]
):
    encrypted.files |= {
        "/demo": PROGRAM,
        "/sums": f"{sha256(b'')}  other\n{sha256(PROGRAM)}  demo\n".encode(),
    }
    cache = pin(downloads=[{"url": f"{encrypted.url}/demo", "published": f"{encrypted.url}/sums"}])
    assert command.main(["--only", "demo"]) == 0
    assert f"no checksum is pinned: taking it from {encrypted.url}/sums" in capsys.readouterr().err
    assert len(left(cache)) == 1


@pytest.mark.parametrize("listed", ["another", "nothing"])
def test_a_published_checksum_that_differs_or_is_absent_is_refused(
    pin: Pin, encrypted: ReleaseServer, listed: str
):
    sums = f"{sha256(b'another')}  demo\n" if listed == "another" else f"{sha256(PROGRAM)}  other\n"
    encrypted.files |= {"/demo": PROGRAM, "/sums": sums.encode()}
    cache = pin(downloads=[{"url": f"{encrypted.url}/demo", "published": f"{encrypted.url}/sums"}])
    assert command.main(["--only", "demo"]) == 1
    assert left(cache) == []


def test_a_published_checksum_is_not_read_in_the_clear(pin: Pin, releases: ReleaseServer):
    releases.files |= {"/demo": PROGRAM, "/sums": f"{sha256(PROGRAM)}  demo\n".encode()}
    cache = pin(downloads=[{"url": f"{releases.url}/demo", "published": f"{releases.url}/sums"}])
    assert command.main(["--only", "demo"]) == 1
    assert left(cache) == []


def test_an_encrypted_download_is_not_led_to_one_in_the_clear(
    pin: Pin, encrypted: ReleaseServer, releases: ReleaseServer, capsys: pytest.CaptureFixture[str]
):
    releases.files["/demo"] = PROGRAM
    encrypted.redirects["/demo"] = f"{releases.url}/demo"
    cache = pin(downloads=[{"url": f"{encrypted.url}/demo", "sha256": sha256(PROGRAM)}])
    assert command.main(["--only", "demo"]) == 1
    assert "not encrypted" in capsys.readouterr().err
    assert left(cache) == []


def test_an_archive_that_is_packed_anew_at_times_is_known_by_its_content(pin: Pin, releases: ReleaseServer):
    files = {"demo-1.0/config/b.yaml": b"b", "demo-1.0/config/a/a.yaml": b"a", "demo-1.0/main.go": b""}
    releases.files["/demo.tar.gz"] = archive(**files)
    lines = f"{sha256(b'a')}  a/a.yaml\n{sha256(b'b')}  b.yaml\n"
    entry = {"url": f"{releases.url}/demo.tar.gz", "members": {"demo-1.0/config/": "config/"}}
    cache = pin(files=["config"], downloads=[entry | {"tree_sha256": sha256(lines.encode())}])
    assert command.main(["--only", "demo"]) == 0
    assert (tools.file("demo", "config") / "a/a.yaml").read_bytes() == b"a"
    pin(version="2.0", files=["config"], downloads=[entry | {"tree_sha256": sha256(b"")}])
    assert command.main(["--only", "demo"]) == 1
    assert len(left(cache)) == 1


def test_an_archive_writes_nothing_outside_of_its_kit(pin: Pin, releases: ReleaseServer, tmp_path: Path):
    packed = archive(**{"demo/../../../../escaped": PROGRAM})
    releases.files["/demo.tar.gz"] = packed
    entry = {"url": f"{releases.url}/demo.tar.gz", "sha256": sha256(packed), "members": {"demo/": "demo/"}}
    cache = pin(downloads=[entry])
    assert command.main(["--only", "demo"]) == 1
    assert not list(tmp_path.rglob("escaped"))
    assert left(cache) == []


def image(releases: ReleaseServer, blob: bytes, claimed: bytes) -> dict[str, object]:
    """Serve an image of two layers; return its pin."""
    manifest = json.dumps(
        {"layers": [{"digest": f"sha256:{sha256(part)}"} for part in (b"base", claimed)]}
    ).encode()
    digest = f"sha256:{sha256(manifest)}"
    releases.token = "for anybody"
    releases.files |= {
        f"/v2/demo/manifests/{digest}": manifest,
        f"/v2/demo/blobs/sha256:{sha256(claimed)}": blob,
        "/token": b'{"token": "for anybody"}',
    }
    return {"url": f"{releases.url}/v2/demo", "digest": digest, "members": {"demo": "demo"}}


def test_a_program_is_taken_out_of_an_images_last_layer(pin: Pin, releases: ReleaseServer):
    layer = archive(demo=PROGRAM)
    pin(images=[image(releases, layer, layer)])
    assert command.main(["--only", "demo"]) == 0
    assert tools.file("demo", "demo").read_bytes() == PROGRAM
    assert not any(sha256(b"base") in path for path in releases.requests)


def test_a_layer_of_another_content_is_refused(pin: Pin, releases: ReleaseServer):
    cache = pin(images=[image(releases, archive(demo=b"another"), archive(demo=PROGRAM))])
    assert command.main(["--only", "demo"]) == 1
    assert left(cache) == []


@pytest.fixture
def buildable(pin: Pin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pin:
    """Return a pin of a kit with a module, which a recipe makes in place of Go's compiler."""

    def recipe(build: golang.Builder) -> None:
        (build.target / "demo").write_text("built")

    monkeypatch.setitem(golang.RECIPES, "demo", recipe)
    monkeypatch.setattr(golang, "find_go", lambda: tmp_path / "go")
    module = {"path": "example.org/demo", "version": "v1.0.0", "sum": "h1:x"}
    return lambda **table: pin(modules={"demo": module}, **table)


@pytest.mark.parametrize(
    ("source", "reachable", "made"),
    [("auto", True, "released"), ("auto", False, "built"), ("go", True, "built"), ("releases", False, None)],
)
def test_releases_are_taken_where_they_can_be_reached_and_modules_built_elsewhere(
    buildable: Pin, releases: ReleaseServer, source: str, reachable: bool, made: str | None
):
    releases.files["/demo"] = b"released"
    with serving() as gone:
        nowhere = gone.url
    url = releases.url if reachable else nowhere
    cache = buildable(downloads=[{"url": f"{url}/demo", "sha256": sha256(b"released")}])
    assert command.main(["--only", "demo", "--from", source]) == (0 if made else 1)
    if made:
        assert tools.file("demo", "demo").read_text() == made
    else:
        assert left(cache) == []


def test_a_release_that_does_not_exist_is_built_from_its_module(buildable: Pin, releases: ReleaseServer):
    buildable(downloads=[{"url": f"{releases.url}/removed", "sha256": sha256(b"released")}])
    assert command.main(["--only", "demo"]) == 0
    assert tools.file("demo", "demo").read_text() == "built"
    assert releases.requests[-1] == "GET /removed"


def test_a_build_has_nothing_of_the_release_whose_other_half_does_not_exist(
    buildable: Pin, releases: ReleaseServer
):
    packed = archive(**{"config/a.yaml": b"released", "demo": b"released"})
    releases.files["/first.tar.gz"] = packed
    first = {"url": f"{releases.url}/first.tar.gz", "sha256": sha256(packed)}
    first["members"] = {"config/": "config/", "demo": "demo"}
    buildable(downloads=[first, {"url": f"{releases.url}/removed", "sha256": sha256(b"")}])
    assert command.main(["--only", "demo"]) == 0
    folder = tools.file("demo", "demo").parent
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"demo": "built"}


def test_a_build_that_fails_says_what_go_said_and_leaves_nothing(
    buildable: Pin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    go = tmp_path / "go"
    go.write_text(
        "#!/bin/sh\necho example.org/dependency >&2\necho 'main.go:1:1: no such thing' >&2\nexit 1\n"
    )
    go.chmod(0o755)
    monkeypatch.setitem(golang.RECIPES, "demo", lambda build: build.compile(build.work, ".", "demo"))
    cache = buildable()
    assert command.main(["--only", "demo"]) == 1
    assert "demo could not be compiled:\nmain.go:1:1: no such thing" in capsys.readouterr().err
    assert left(cache) == []


def test_a_module_with_another_checksum_is_refused(
    buildable: Pin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    go = tmp_path / "go"
    go.write_text("""#!/bin/sh\necho '{"Dir": "/nowhere", "Sum": "h1:y"}'\n""")
    go.chmod(0o755)
    monkeypatch.setitem(golang.RECIPES, "demo", lambda build: build.copy("demo"))
    cache = buildable()
    assert command.main(["--only", "demo"]) == 1
    assert "example.org/demo v1.0.0 has the checksum h1:y, not h1:x" in capsys.readouterr().err
    assert left(cache) == []


def test_a_kit_that_lacks_a_file_is_not_kept(pin: Pin, releases: ReleaseServer):
    releases.files["/demo"] = PROGRAM
    cache = pin(
        files=["demo", "helper"], downloads=[{"url": f"{releases.url}/demo", "sha256": sha256(PROGRAM)}]
    )
    assert command.main(["--only", "demo"]) == 1
    assert left(cache) == []


def test_a_kit_is_fetched_anew_when_its_pin_changes_and_all_are_removed_together(
    pin: Pin, releases: ReleaseServer, capsys: pytest.CaptureFixture[str]
):
    for data in (b"old", b"new"):
        releases.files["/demo"] = data
        cache = pin(downloads=[{"url": f"{releases.url}/demo", "sha256": sha256(data)}])
        assert command.main(["--only", "demo"]) == 0
    assert tools.file("demo", "demo").read_bytes() == b"new"
    assert len(left(cache)) == 2
    assert command.main(["remove"]) == 0
    assert "removed 2 kits" in capsys.readouterr().out
    assert not cache.exists()
    assert tools.missing("demo")


def test_kedas_manifests_are_hashed_by_name_and_content(tmp_path: Path):
    (tmp_path / "a").write_text("one")
    before = download.tree_sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert download.tree_sha256(tmp_path) != before
