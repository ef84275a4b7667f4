"""Mirrors that a catalogue or ``--source`` names: https, and buckets of S3 and Google Cloud Storage."""

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from model_loader.errors import SourceError
from model_loader.sources.protocols import HttpSource
from model_loader.sources.transport import HttpOptions, Transport

SCHEMES = ("s3://", "gs://")
GOOGLE = "https://storage.googleapis.com"
_NO_PAYLOAD = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class AwsSigner:
    """Signs requests for S3 (Signature Version 4); ``clock`` returns the time in UTC."""

    key_id: str
    secret: str
    session: str | None
    region: str
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __call__(self, url: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers that authorise a GET of ``url``, its ``Range`` included."""
        now = self.clock().strftime("%Y%m%dT%H%M%SZ")
        parts = urlsplit(url)
        own = {"x-amz-content-sha256": _NO_PAYLOAD, "x-amz-date": now}
        if self.session:
            own["x-amz-security-token"] = self.session
        signed = {"host": parts.netloc, **own}
        if "Range" in headers:
            signed["range"] = headers["Range"]
        names = ";".join(sorted(signed))
        fields = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = "\n".join(("GET", parts.path or "/", parts.query, fields, names, _NO_PAYLOAD))
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{self.secret}".encode()
        for step in (now[:8], self.region, "s3", "aws4_request"):
            key = hmac.digest(key, step.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}"
        return {**own, "Authorization": f"{credential},SignedHeaders={names},Signature={signature}"}


def mirror(address: str, options: HttpOptions, connections: int) -> HttpSource:
    """Return the source at ``https://…``, ``s3://bucket/folder`` or ``gs://bucket/folder``.

    A bucket is read with the environment's credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN; CLOUDSDK_AUTH_ACCESS_TOKEN), and without any as a public one. Raises SourceError for an
    invalid address.
    """
    if not address.startswith(SCHEMES):
        return HttpSource(address, Transport(address, None, options, connections))
    bucket, _, folder = address.partition("://")[2].strip("/").partition("/")
    if not bucket:
        raise SourceError(f"{address}: the bucket is missing; write {address[:5]}BUCKET/FOLDER.")
    if address.startswith("gs://"):
        token = os.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN") or None
        base = _joined(GOOGLE, bucket, folder)
        return HttpSource(base, Transport(base, token, options, connections))
    base, signer = _s3(bucket, folder)
    return HttpSource(base, Transport(base, None, options, connections, authorize=signer))


def _s3(bucket: str, folder: str) -> tuple[str, AwsSigner | None]:
    env = os.environ
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    # A bucket with a dot in its name matches no wildcard certificate, so it is named in the path.
    if endpoint is None and "." not in bucket:
        base = _joined(f"https://{bucket}.s3.{region}.amazonaws.com", folder)
    else:
        base = _joined(endpoint or f"https://s3.{region}.amazonaws.com", bucket, folder)
    key_id, secret = env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")
    if not (key_id and secret):
        return base, None
    return base, AwsSigner(key_id, secret, env.get("AWS_SESSION_TOKEN"), region)


def _joined(base: str, *folders: str) -> str:
    return "/".join([base.rstrip("/"), *(quote(folder) for folder in folders if folder)])
