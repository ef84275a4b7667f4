"""Buckets as mirrors: their addresses, and requests signed as S3 wants them."""

from datetime import UTC, datetime

import pytest

from model_loader.errors import SourceError
from model_loader.sources.object_store import AwsSigner, mirror
from model_loader.sources.transport import HttpOptions
from tests.model_loader.lab import Lab

OPTIONS = HttpOptions(stall_s=10.0)


def test_the_signature_is_that_of_amazons_published_example():
    signer = AwsSigner(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        None,
        "us-east-1",
        lambda: datetime(2013, 5, 24, tzinfo=UTC),
    )
    headers = signer("https://examplebucket.s3.amazonaws.com/test.txt", {"Range": "bytes=0-9"})
    assert headers["Authorization"].endswith(
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


@pytest.mark.parametrize(
    ("address", "variables", "url"),
    [
        ("s3://models/a b", {"AWS_REGION": "eu-west-1"}, "https://models.s3.eu-west-1.amazonaws.com/a%20b/f"),
        ("s3://my.models/q", {}, "https://s3.us-east-1.amazonaws.com/my.models/q/f"),
        ("s3://models/q", {"AWS_ENDPOINT_URL": "https://minio:9000"}, "https://minio:9000/models/q/f"),
        ("gs://models/q", {}, "https://storage.googleapis.com/models/q/f"),
        ("https://mirror.example/q", {}, "https://mirror.example/q/f"),
    ],
)
def test_a_bucket_is_read_at_its_services_address(monkeypatch, address, variables, url):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert mirror(address, OPTIONS, 1).url("f") == url


def test_a_bucket_without_a_name_is_refused():
    with pytest.raises(SourceError, match="bucket is missing"):
        mirror("s3://", OPTIONS, 1)


def test_a_private_bucket_is_fetched_with_signed_requests(lab: Lab, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", lab.hub.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    lab.hub.files = {f"models/demo/{name}": data for name, data in lab.files.items()}
    lab.fetch(source=mirror("s3://models/demo", OPTIONS, 4))
    assert lab.hub.seen
    for seen in lab.hub.seen:
        assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=id/")
        assert "canary-secret" not in repr(seen.headers)
    lab.verdict("v2", staging=False)
