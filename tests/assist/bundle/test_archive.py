"""The archive: the same bytes each time, and every kind of damage refused before anything is unpacked."""

import os
import tarfile
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assist.bundle import archive, install, signatures, signing_keys
from assist.bundle.errors import BundleError
from assist.bundle.manifest import Entry
from assist.bundle.paths import BundlePaths
from tests.assist.bundle.small import CONTENT, member


def refused(small, match: str) -> None:
    """Both commands refuse, and install leaves nothing at all."""
    with pytest.raises(BundleError, match=match):
        archive.verify(small.archive, small.key)
    home = small.project / ".run"
    with pytest.raises(BundleError, match=match):
        install.install(small.archive, small.key, BundlePaths(small.project, home))
    assert not home.exists()


def test_the_same_content_and_key_give_the_same_bytes(small):
    first = small.archive.read_bytes()
    for file in small.files().values():
        os.utime(file, (1, 1))
    small.build()
    assert small.archive.read_bytes() == first


def test_a_whole_archive_is_verified_and_every_byte_is_reported(small):
    seen = []
    manifest = archive.verify(small.archive, small.key, seen.append)
    assert [entry.path for entry in manifest.files] == sorted(CONTENT)
    assert sum(seen) == manifest.size == sum(map(len, CONTENT.values()))


def test_an_archive_cut_anywhere_is_refused(small):
    whole = small.archive.read_bytes()
    end = len(whole) - next(i for i, byte in enumerate(reversed(whole)) if byte)
    for size in [0, 1, 511, 512, 1000, 2000, 4096, end // 2, end - 1, end, end + 511]:
        small.archive.write_bytes(whole[:size])
        with pytest.raises(BundleError):
            archive.verify(small.archive, small.key)
    refused(small, "cut short")


def test_a_changed_byte_anywhere_is_refused(small):
    whole = small.archive.read_bytes()
    # What lies between members is padding that nobody reads; headers and contents all count.
    places = [offset for info, data in small.members() for offset in spots(info, data)]
    for offset in places:
        changed = bytearray(whole)
        changed[offset] ^= 0x20
        small.archive.write_bytes(changed)
        with pytest.raises(BundleError):
            archive.verify(small.archive, small.key)
    refused(small, "altered")


def spots(info: tarfile.TarInfo, data: bytes) -> list[int]:
    inside = [info.offset_data + index for index in (0, len(data) // 2, len(data) - 1) if data]
    return [info.offset, info.offset + 124, *inside]


def test_a_file_more_at_the_end_is_refused(small):
    small.write_members([*small.members(), member("wheels/zzz-1.0-py3-none-any.whl", b"evil")])
    refused(small, "added")


def test_a_file_more_in_between_is_refused(small):
    members = small.members()
    small.write_members([*members[:3], member("debs/more.deb", b"evil"), *members[3:]])
    refused(small, "added, altered or removed")


def test_a_file_less_is_refused(small):
    members = small.members()
    small.write_members(members[:3] + members[4:])
    refused(small, "removed")
    small.write_members(members[:-1])
    refused(small, "cut short")


def test_bytes_behind_the_end_are_refused(small):
    with small.archive.open("ab") as stream:
        stream.write(b"\0" * 20480 + b"more")
    refused(small, "data was added")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "wheels/../../outside"])
def test_a_member_that_leads_outside_is_refused(small, name):
    members = small.members()
    members[2] = member(name, members[2][1])
    small.write_members(members)
    refused(small, "altered")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_a_link_a_device_or_a_folder_in_place_of_a_file_is_refused(small, kind):
    members = small.members()
    members[2] = member(members[2][0].name, type=kind, linkname="/etc/passwd")
    small.write_members(members)
    refused(small, "altered")


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "/etc/outside",
        "wheels/../../outside",
        "elsewhere/file",
        "wheels",
        "wheels/a\\b",
        "wheels/\n",
    ],
)
def test_not_even_a_signed_manifest_may_name_a_path_outside_its_folders(small, path):
    manifest = small.manifest()
    bad = replace(manifest, files=(Entry(path, 1, "0" * 64), *manifest.files))
    sign_and_write(small, bad.to_json())
    refused(small, "refused|is outside")


def sign_and_write(small, text: bytes) -> None:
    signature = signing_keys.sign(small.private, text, "small")
    members = small.members()
    small.write_members(
        [member("manifest.json", text), member("manifest.json.minisig", signature), *members[2:]]
    )


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "files": 3}'])
def test_a_signed_manifest_that_is_none_is_refused(small, text):
    sign_and_write(small, text)
    refused(small, "Use a bundle")


def test_a_manifest_that_somebody_else_signed_is_refused(small):
    members = small.members()
    small.private = Ed25519PrivateKey.generate()
    assert members[1][0].name == "manifest.json.minisig"
    refused(small, "signed by key")


def test_a_manifest_changed_after_it_was_signed_is_refused(small):
    members = small.members()
    members[0] = member("manifest.json", members[0][1].replace(b"small", b"other"))
    small.write_members(members)
    refused(small, "altered")


def test_a_signature_too_large_to_be_one_is_not_even_read(small):
    huge = member("manifest.json.minisig", b"x" * 5000)
    small.write_members([small.members()[0], huge])
    refused(small, "missing or misplaced")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x1f\x8b gzip", b"\x28\xb5\x2f\xfd zstd"])
def test_what_is_no_archive_is_refused(small, content):
    small.archive.write_bytes(content)
    refused(small, "not a bundle")


def test_an_archive_that_is_not_there_is_refused_by_name(small):
    small.archive.unlink()
    refused(small, "small.bundle")


def test_a_file_that_changes_while_it_is_written_spoils_no_archive(small):
    manifest, before = small.manifest(), small.archive.read_bytes()
    (small.folder / "content/wheels/uv-1.0-py3-none-any.whl").write_bytes(b"b wheel" * 1000)
    with pytest.raises(BundleError, match="differs from the manifest"):
        small.build(manifest)
    assert small.archive.read_bytes() == before
    assert not list(small.folder.glob(".small*"))


def test_the_signature_can_be_read_out_of_the_archive_with_tar_alone(small):
    names = [info.name for info, _ in small.members()]
    assert names[:2] == ["manifest.json", "manifest.json.minisig"]
    signatures.check(small.members()[1][1], small.members()[0][1], small.key)
