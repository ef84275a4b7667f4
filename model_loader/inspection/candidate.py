"""What could be served: files and facts of one model, from a GGUF file, a folder or a hub's repository."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from model_loader import path_rules
from model_loader.errors import ModelError, SourceError
from model_loader.inspection import checkpoint_facts, gguf_facts, gguf_header, licences, repository
from model_loader.inspection.source_bytes import Counting, SourceBytes
from model_loader.plan import WantedFile
from model_loader.retry import RetryPolicy, retrying
from model_loader.sources import pin
from model_loader.sources.protocols import FolderSource, HubSource, Source

Converters = Mapping[str, Sequence[str]]
_HUB_ID = re.compile(r"^(?P<repository>[\w.-]+/[\w.-]+)(?::(?P<file>.+))?$")


@dataclass(frozen=True)
class Candidate:
    """A model that was looked at.

    ``place`` and ``values`` are fields of the catalogue's entry, ``origin`` is one. ``licence`` is what the
    file or the card names, if any.
    """

    name: str
    place: dict[str, str]
    files: list[WantedFile]
    values: dict[str, Any]
    licence: str | None
    origin: dict[str, str]


@dataclass
class Inspector:
    """Looks at models, given the architectures that each runtime's ``converters`` take.

    ``expect`` gets the bytes that will be hashed, ``add`` those that were: of large files this takes minutes.
    """

    converters: Converters
    retry: RetryPolicy
    expect: Callable[[int], None] = lambda _: None
    add: Callable[[int], None] = lambda _: None

    def inspect(self, source: str, revision: str) -> Candidate:
        """Return the model at ``source``: a path, a hub's ``organisation/name``, or that with ``:file``.

        ``revision`` is a hub's branch, tag or commit. Raises ModelError for what cannot be served and for
        what is no model, PlanError for a file name that a store refuses, else as the source.
        """
        path = Path(source).expanduser()
        if path.is_dir():
            return self._folder(path)
        if path.exists():
            return self._file(path)
        match = _HUB_ID.match(source)
        if match is None or source.startswith(("./", "../")):
            raise SourceError(
                f"{source} does not exist here, and is no hub's organisation/name or organisation/name:file."
            )
        return self._repository(match["repository"], match["file"], revision)

    def _file(self, path: Path) -> Candidate:
        path_rules.check_names([path.name])
        path_rules.check_format(path.name, pinned=True)
        folder = path.parent.resolve()
        source, size = FolderSource(folder), path.stat().st_size
        facts = self._gguf(source, path.name, size)
        return self._local(folder, source, {path.name: size}, facts, PurePosixPath(path.name).stem)

    def _folder(self, path: Path) -> Candidate:
        folder = path.resolve()
        source = FolderSource(folder)
        sizes = {each.name: each.stat().st_size for each in sorted(folder.iterdir()) if each.is_file()}
        weights = repository.safetensors(source, sizes)
        if not weights:
            found = repository.gguf_files(sizes)
            if len(found) == 1:
                return self._file(folder / found[0])
            raise _no_weights(str(path), sizes, {name: sizes[name] for name in found}, f"{path}/FILE")
        names = repository.documents(sizes, weights)
        path_rules.check_names(names)
        facts = checkpoint_facts.facts(source, sizes, weights, self.converters)
        licence = facts.licence or repository.card_licence(source, sizes)
        facts = gguf_facts.Facts(facts.values, licence)
        return self._local(folder, source, {name: sizes[name] for name in names}, facts, folder.name)

    def _local(
        self, folder: Path, source: Source, sizes: dict[str, int], facts: gguf_facts.Facts, name: str
    ) -> Candidate:
        self.expect(sum(sizes.values()))
        files = pin.resolve(Counting(source, self.add), list(sizes), "", self.retry).files
        # The files' own digest: other bytes at the same path are another revision.
        total = hashlib.sha256("".join(str(file.sha256) for file in files).encode()).hexdigest()
        place = {"path": str(folder), "revision": total[:12]}
        return _candidate(name, place, files, facts, "file")

    def _repository(self, name: str, file: str | None, revision: str) -> Candidate:
        hub = pin.hub(name, revision)
        commit, listed = retrying(self.retry, hub.listing)
        at = hub.at(commit)
        sizes = repository.known_sizes(listed)
        weights = [] if file else repository.safetensors(at, sizes)
        found = repository.gguf_files(listed)
        if file is None and not weights and len(found) == 1:
            file = found[0]
        if file is None and not weights:
            raise _no_weights(at.name, listed, {each: sizes.get(each, 0) for each in found}, f"{name}:FILE")
        if file is not None:
            return self._hub_file(name, at, commit, file, listed)
        names = repository.documents(listed, weights)
        facts = checkpoint_facts.facts(at, sizes, weights, self.converters)
        return self._hub(name, at, commit, names, facts, name.partition("/")[2])

    def _hub_file(
        self, name: str, at: HubSource, commit: str, file: str, listed: dict[str, WantedFile]
    ) -> Candidate:
        if file not in listed or listed[file].size is None:
            has = ", ".join(repository.gguf_files(listed)[:30]) or "no GGUF file"
            raise ModelError(f"{at.name} has no file {file!r}. It has {has}.")
        facts = self._gguf(at, file, listed[file].size or 0)
        return self._hub(name, at, commit, [file], facts, PurePosixPath(file).stem)

    def _hub(
        self, name: str, at: HubSource, commit: str, paths: list[str], facts: gguf_facts.Facts, model: str
    ) -> Candidate:
        path_rules.check_names(paths)
        files = pin.resolve(at, paths, commit, self.retry).files
        licence = facts.licence or licences.of_card(retrying(self.retry, at.card))
        origin = "file" if facts.licence else "hub"
        facts = gguf_facts.Facts(facts.values, licence)
        return _candidate(model, {"repository": name, "revision": commit}, files, facts, "hub", origin)

    def _gguf(self, source: Source, path: str, size: int) -> gguf_facts.Facts:
        return gguf_facts.facts(gguf_header.parse(SourceBytes(source, path, size, self.retry)), size)


def _candidate(
    name: str,
    place: dict[str, str],
    files: list[WantedFile],
    facts: gguf_facts.Facts,
    pinned: str,
    licence: str = "file",
) -> Candidate:
    shape = "file" if facts.values["format"] == "gguf" else "config.json"
    origin = {"pin": pinned, "shape": shape, "tokens": "file", "licence": licence}
    files = sorted(files, key=lambda file: file.path)
    return Candidate(name, place, files, facts.values, facts.licence, origin)


def _no_weights(
    name: str, names: Sequence[str] | Mapping[str, Any], found: dict[str, int], how: str
) -> ModelError:
    if found:
        listed = ", ".join(f"{path} ({size / 2**20:,.0f} MiB)" for path, size in list(found.items())[:30])
        return ModelError(f"{name} has {len(found)} GGUF files; choose one, as {how}: {listed}.")
    if pickled := repository.pickles(names):
        return ModelError(
            f"{name} has pickled weights only ({', '.join(pickled[:3])}), whose shape is not read here."
            " Add a revision with safetensors (--revision refs/pr/N), or a GGUF file of the model; or pin a"
            " model of the catalogue that is the same (assist models pin)."
        )
    return ModelError(f"{name} has neither safetensors nor GGUF files. Add a model's folder, file or hub id.")
