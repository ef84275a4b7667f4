"""A Python package index on loopback: the simple API as HTML or JSON, wheels with ranges, faults by script."""

import io
import json
import re
import zipfile
from hashlib import sha256

from testing.doubles.hub import Answer, Hub, Script, Seen

JSON = "application/vnd.pypi.simple.v1+json"


def wheel(members: dict[str, bytes], *, deflated: bool = False) -> bytes:
    """Return a zip with ``members``."""
    content = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(content, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, kind)
    return content.getvalue()


class PackageIndex:
    """Serves ``wheels`` by file name; ``sums`` are the checksums that its pages announce."""

    def __init__(self, wheels: dict[str, bytes], *, as_json: bool = False, checksums: bool = True) -> None:
        self.sums = {name: sha256(data).hexdigest() for name, data in wheels.items()} if checksums else {}
        self.as_json = as_json
        self.faults: Script = lambda _seen: None
        self.base: str | None = None
        self.hub = Hub({f"files/{name}": data for name, data in wheels.items()})
        self.hub.script = self._answer
        self.url = f"{self.hub.url}/simple/"

    def wheel_requests(self) -> list[Seen]:
        """Return the requests for wheels so far."""
        return [seen for seen in self.hub.seen if seen.path.startswith("/files/")]

    def close(self) -> None:
        """Stop serving."""
        self.hub.close()

    def _answer(self, seen: Seen) -> Answer | None:
        if fault := self.faults(seen):
            return fault
        match = re.fullmatch(r"/simple/([a-z0-9-]+)/", seen.path)
        if match is None:
            return None
        found = [name for name in self._names() if name.partition("-")[0].replace("_", "-") == match[1]]
        if not found:
            return Answer(status=404)
        self.hub.files.setdefault(seen.path.lstrip("/"), b"")
        page = self._json(found) if self.as_json else self._html(found)
        kind = JSON if self.as_json else "text/html; charset=utf-8"
        return Answer(body=page, headers={"Content-Type": kind})

    def _names(self) -> list[str]:
        return [name.removeprefix("files/") for name in self.hub.files if name.startswith("files/")]

    def _link(self, name: str) -> str:
        return f"{self.base}/{name}" if self.base else f"../../files/{name}"

    def _json(self, names: list[str]) -> bytes:
        rows = [
            {
                "filename": n,
                "url": self._link(n),
                "hashes": {"sha256": self.sums[n]} if n in self.sums else {},
            }
            for n in names
        ]
        return json.dumps({"meta": {"api-version": "1.0"}, "name": "x", "files": rows}).encode()

    def _html(self, names: list[str]) -> bytes:
        links = [
            f'<a href="{self._link(n)}{f"#sha256={self.sums[n]}" if n in self.sums else ""}">{n}</a><br>'
            for n in names
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
