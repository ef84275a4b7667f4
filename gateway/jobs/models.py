"""A job's record and its id."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

Kind = Literal["score", "completion"]
Status = Literal["queued", "running", "cancelling", "cancelled", "succeeded", "failed"]
FINISHED: frozenset[str] = frozenset({"cancelled", "succeeded", "failed"})
_ID = re.compile(r"job_[0-9a-f]{24}\Z")
# All fields but the request, which may be large.
FIELDS = (
    "owner",
    "kind",
    "status",
    "items",
    "created",
    "started",
    "finished",
    "error",
    "delivery",
    "attempts",
)


def new_id() -> str:
    """Return a random id that cannot be guessed."""
    return f"job_{secrets.token_hex(12)}"


def is_id(text: str) -> bool:
    """Return whether a job could have this id."""
    return _ID.match(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A job without its request and its results; times are seconds since 1970, 0 means not yet."""

    id: str
    owner: str
    kind: Kind
    status: Status
    items: int
    created: float
    started: float = 0.0
    finished: float = 0.0
    error: str = ""
    delivery: int = 1
    attempts: int = 0

    @classmethod
    def of(cls, job_id: str, values: list[bytes | None]) -> "JobRecord | None":
        """Return the record with these values of ``FIELDS``; ``None`` where there is none."""
        if values[0] is None:
            return None
        given = {
            name: value.decode() for name, value in zip(FIELDS, values, strict=True) if value is not None
        }
        return cls(
            id=job_id,
            owner=given["owner"],
            kind=cast("Kind", given["kind"]),
            status=cast("Status", given["status"]),
            items=int(given["items"]),
            created=float(given["created"]),
            started=float(given.get("started", 0)),
            finished=float(given.get("finished", 0)),
            error=given.get("error", ""),
            delivery=int(given.get("delivery", 1)),
            attempts=int(given.get("attempts", 0)),
        )

    def document(self, done: int, result_ttl_s: int) -> dict[str, Any]:
        """Return the JSON that the owner sees; ``done`` items are finished."""
        return {
            "id": self.id,
            "object": "job",
            "type": self.kind,
            "status": self.status,
            "items": {"total": self.items, "done": done},
            "created": int(self.created),
            "started": int(self.started) or None,
            "finished": int(self.finished) or None,
            "expires": int(self.finished) + result_ttl_s if self.finished else None,
            "error": orjson.loads(self.error) if self.error else None,
        }


def fields(record: JobRecord, request: Mapping[str, Any]) -> list[str | bytes]:
    """Return a new record's fields and values, one after the other, with the job's request."""
    values: dict[str, str | bytes] = {
        "owner": record.owner,
        "kind": record.kind,
        "status": record.status,
        "items": str(record.items),
        "created": repr(record.created),
        "delivery": str(record.delivery),
        "request": orjson.dumps(request),
    }
    return [part for pair in values.items() for part in pair]
