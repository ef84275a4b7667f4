"""Cloud Storage: buckets, and the objects that keep a bucket from being deleted."""

import base64
import hashlib
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from testing.gcp.cloud import Body, GoogleError, State
from testing.gcp.kinds.base import Inputs, Kind, Rules, missing
from testing.gcp.kinds.places import Where
from testing.gcp.schema import Finding

BUCKET = "gcp:storage/bucket:Bucket"
OBJECT = "gcp:storage/bucketObject:BucketObject"
_CLASSES = ("STANDARD", "MULTI_REGIONAL", "REGIONAL", "NEARLINE", "COLDLINE", "ARCHIVE")


class Bucket(Kind):
    token, labels, autoname = BUCKET, "labels", 63
    replaces = frozenset({"name", "location", "project", "enableObjectRetention", "hierarchicalNamespace"})
    rules = Rules(
        patterns={"name": r"[a-z0-9][-a-z0-9_.]{1,220}[a-z0-9]"},
        allowed={"storageClass": _CLASSES, "publicAccessPrevention": ("inherited", "enforced")},
    )
    local = MappingProxyType({"forceDestroy": False, "deletionPolicy": "DELETE"})

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        name = inputs.get("name", "x-x")
        if any(len(part) > 63 for part in name.split(".")) or ("." not in name and len(name) > 63):
            yield Finding("name", "expected at most 63 characters between dots")
        if name.startswith("goog") or "google" in name:
            yield Finding("name", f"{name!r} contains google, which is reserved")

    def same(self, path: str, one: Any, other: Any) -> bool:
        """Return whether two values mean the same; Google writes a bucket's place in capitals."""
        if path == "location" and isinstance(one, str) and isinstance(other, str):
            return one.upper() == other.upper()
        return super().same(path, one, other)

    def identity(self, inputs: Inputs, where: Where) -> str:
        return str(inputs["name"])

    def create(self, state: State, inputs: Inputs, where: Where) -> str:
        if state.find(BUCKET, inputs["name"]) is not None:
            raise GoogleError(409, "The requested bucket name is not available.", "conflict")
        return super().create(state, inputs, where)

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        return {
            "project": inputs.get("project", where.project),
            "location": inputs["location"].upper(),
            "storageClass": inputs.get("storageClass", "STANDARD"),
            "publicAccessPrevention": inputs.get("publicAccessPrevention", "inherited"),
            "url": f"gs://{inputs['name']}",
            "selfLink": f"https://www.googleapis.com/storage/v1/b/{inputs['name']}",
            "timeCreated": "2026-01-01T00:00:00Z",
            "updated": "2026-01-01T00:00:00Z",
            "projectNumber": 123456789012,
        }

    def delete(self, state: State, identity: str, last: Body) -> None:
        """Remove the bucket's objects where it may be destroyed with them, else only an empty one."""
        found = [name for name, one in state.all(OBJECT).items() if one["bucket"] == identity]
        if found and not last.get("forceDestroy"):
            message = f"The bucket you tried to delete is not empty: {identity} has {len(found)} objects; set forceDestroy"
            raise GoogleError(409, message, "conflict")
        for name in found:
            state.remove(OBJECT, name)


class BucketObject(Kind):
    token, autoname = OBJECT, 1024
    replaces = frozenset(
        {"bucket", "name", "source", "contentType", "storageClass", "metadata", "cacheControl"}
    )
    rules = Rules(
        conflicts=(("content", "source"),),
    )
    local = MappingProxyType(
        {"content": None, "source": None, "deletionPolicy": "DELETE", "detectMd5hash": None}
    )

    def check(self, inputs: Inputs) -> Iterator[Finding]:
        yield from super().check(inputs)
        if "content" not in inputs and "source" not in inputs:
            yield Finding("content", "one of content and source must be given")

    def identity(self, inputs: Inputs, where: Where) -> str:
        return f"{inputs['bucket']}-{inputs['name']}"

    def admit(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> None:
        if state.find(BUCKET, inputs["bucket"]) is None:
            raise missing(inputs["bucket"])

    def body(self, state: State, inputs: Inputs, where: Where, old: Body | None) -> Body:
        digest = hashlib.md5(str(inputs.get("content", inputs.get("source"))).encode(), usedforsecurity=False)
        address = f"https://storage.googleapis.com/storage/v1/b/{inputs['bucket']}/o/{inputs['name']}"
        return {
            "md5hash": base64.b64encode(digest.digest()).decode(),
            "md5hexhash": digest.hexdigest(),
            "generation": 10**15 + state.number(),
            "outputName": inputs["name"],
            "selfLink": address,
            "mediaLink": f"{address}?alt=media",
            "contentType": inputs.get("contentType", "text/plain; charset=utf-8"),
            "storageClass": inputs.get("storageClass", "STANDARD"),
        }
