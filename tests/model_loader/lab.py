"""The test bed of the fault matrix: a store that serves v1, a hub that offers v2, and the checks after each fault."""

import random
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from model_loader import fetch
from model_loader.download.segment import Limits
from model_loader.plan import Plan, WantedFile
from model_loader.retry import RetryPolicy
from model_loader.sources.protocols import FolderSource, HttpSource, HubSource, Source
from model_loader.sources.transport import HttpOptions, Transport
from model_loader.store import staging as staging_folders
from model_loader.store import store as stores
from model_loader.store import verify
from model_loader.store.store import Store
from testing.doubles.hub import REPOSITORY, Hub

TOKEN = "hf_canary0123456789"
MODEL = "demo"
SEGMENT = 256 * 1024


def weights(seed: int, size: int = 3_000_000) -> bytes:
    header = b'{"__metadata__":{}}'
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size - 8 - len(header))


def version(seed: int) -> dict[str, bytes]:
    return {"model.safetensors": weights(seed), "config.json": b'{"v": %d, "a": 1}' % seed}


def plan_of(files: dict[str, bytes], revision: str, *, pinned: bool = True) -> Plan:
    specs = tuple(
        WantedFile(n, len(d), sha256(d).hexdigest()) if pinned else WantedFile(n) for n, d in files.items()
    )
    return Plan(MODEL, revision, specs)


class Heard:
    """A reporter that records every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict]] = []

    def expect(self, total: int) -> None:
        pass

    def add(self, count: int) -> None:
        pass

    def event(self, kind: str, /, **fields) -> None:
        self.events.append((kind, fields))

    def said(self) -> str:
        return repr(self.events)


@dataclass
class Lab:
    """``root`` serves v1 of MODEL; ``files`` is v2 as the hub has it."""

    root: Path
    hub: Hub
    files: dict[str, bytes]
    others: list[Hub] = field(default_factory=list)
    heard: Heard = field(default_factory=Heard)

    def run(self, *, deadline_s: float = 100.0, tries: int = 4, cap_s: float = 0.1, **options) -> fetch.Run:
        retry = RetryPolicy(tries, 0.01, cap_s, time.monotonic() + deadline_s)
        retry.on_retry = lambda message, delay: self.heard.event("retry", reason=message, delay=delay)
        options.setdefault("limits", Limits(4, SEGMENT, 1000.0, 0.3))
        options.setdefault("margin", 1024)
        return fetch.Run(Store(self.root), fetch.Options(**options), retry, self.heard)

    def source(self, revision: str = "v2", **options) -> Source:
        options.setdefault("stall_s", 10.0)
        transport = Transport(self.hub.url, TOKEN, HttpOptions(**options))
        return HubSource(self.hub.url, REPOSITORY, revision, transport)

    def plain_source(self) -> Source:
        base = f"{self.hub.url}/{REPOSITORY}/resolve/v2"
        return HttpSource(base, Transport(base, TOKEN, HttpOptions(stall_s=10.0)))

    def heard_refusal(self) -> int:
        return sum(1 for kind, _ in self.heard.events if kind == "refused")

    def plan(self, *, pinned: bool = True) -> Plan:
        return plan_of(self.files, "v2", pinned=pinned)

    def fetch(self, plan: Plan | None = None, source: Source | None = None, **options) -> Path:
        return fetch.fetch(plan or self.plan(), [source or self.source()], self.run(**options))

    def parts(self) -> list[Path]:
        return list((self.root / ".staging").rglob("*.part"))

    def verdict_current(self, serves: str) -> None:
        assert (self.root / MODEL / "current").readlink().name == serves

    def published_digest(self, folder: Path) -> str:
        manifest = stores.read(folder)
        assert manifest is not None
        return manifest.digest

    def reset_to_v1(self) -> None:
        home = self.root / MODEL
        for path in home.iterdir():
            if path.name not in {"v1", "current"}:
                path.unlink() if path.is_symlink() else staging_folders.remove_tree(path)
        (home / "current").unlink()
        (home / "current").symlink_to("v1")

    def verdict(self, serves: str, *, staging: bool | None = None) -> None:
        """Check the end of every row: a complete version is served, no token leaked, no bytes are orphaned."""
        current = self.root / MODEL / "current"
        assert current.readlink().name == serves
        for folder in Store(self.root).revisions(MODEL):
            manifest = stores.read(folder)
            assert manifest is not None
            assert verify.check(folder, manifest) == []
        self._no_token_outside()
        self._no_orphans(staging)

    def _no_token_outside(self) -> None:
        for other in self.others:
            assert not any(TOKEN in repr(seen.headers) for seen in other.seen)
        assert TOKEN not in self.heard.said()
        for path in self.root.rglob("*.json"):
            assert TOKEN.encode() not in path.read_bytes()

    def _no_orphans(self, staging: bool | None) -> None:
        for path in self.root.rglob("*"):
            if path.is_dir() or path.is_symlink():
                continue
            inside = path.relative_to(self.root).parts
            if inside[0] == ".staging":
                assert path.suffix in {".part", ".progress"}, f"orphan {path}"
                assert inside[1] in self.known_digests() or staging is None
            else:
                assert inside[0] == MODEL, f"orphan {path}"
                assert len(inside) > 2, f"orphan {path}"
        if staging is False:
            left = [p for p in (self.root / ".staging").rglob("*") if not p.is_dir()]
            assert left == []

    def known_digests(self) -> set[str]:
        return {self.plan().digest, self.plan(pinned=False).digest}


def publish_v1(root: Path, folder: Path) -> None:
    folder.mkdir()
    for name, data in version(1).items():
        (folder / name).write_bytes(data)
    lab = Lab(root, None, version(1))  # type: ignore[arg-type]
    lab.fetch(plan_of(version(1), "v1"), FolderSource(folder))
