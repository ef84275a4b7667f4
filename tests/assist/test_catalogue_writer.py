"""Pinning records what the hub said, keeps the rest of the file, and never half."""

import shutil
from pathlib import Path

import pytest

from assist.catalogue_writer import CatalogueError, Pin, record, record_index
from model_loader.plan import WantedFile
from stackfile.catalogue import DIRECTORY, Models
from stackfile.document import read
from stackfile.validation import validate

FILES = [WantedFile("model.safetensors", 10, "a" * 64), WantedFile("config.json", 5, "b" * 64)]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return Path(shutil.copy(DIRECTORY / "models.yaml", tmp_path))


def test_a_pinned_model_is_read_back_with_its_checksums_and_commit(catalogue):
    assert record(catalogue, "codegen-350M-mono", Pin("c" * 40, FILES, "safetensors"))
    models, problems = validate(read(catalogue), Models)
    assert models is not None
    assert problems == []
    facts = models.models["codegen-350M-mono"]
    assert facts.pinned
    assert facts.revision == "c" * 40
    assert [file.path for file in facts.files] == ["config.json", "model.safetensors"]


def test_only_the_pinned_model_changes_and_comments_stay(catalogue):
    before = catalogue.read_text().splitlines()
    record(catalogue, "codegen-350M-mono", Pin("c" * 40, FILES, "safetensors"))
    after = catalogue.read_text().splitlines()
    start = next(i for i, line in enumerate(before) if "codegen-350M-mono:" in line)
    end = next(i for i, line in enumerate(before) if "codegen-2B-multi:" in line)
    assert after[:start] == before[:start]
    assert after[-(len(before) - end) :] == before[end:]


def test_pinning_twice_changes_nothing(catalogue):
    record(catalogue, "codegen-350M-mono", Pin("c" * 40, FILES, "safetensors"))
    assert not record(catalogue, "codegen-350M-mono", Pin("c" * 40, FILES, "safetensors"))


@pytest.mark.parametrize(
    ("model", "files", "remedy"),
    [
        ("codegen-350M", FILES, "did you mean 'codegen-350M-mono'"),
        ("codegen-350M-mono", [WantedFile("config.json", 5, None)], "nothing was recorded"),
    ],
)
def test_what_cannot_be_pinned_leaves_the_catalogue_as_it_was(catalogue, model, files, remedy):
    before = catalogue.read_bytes()
    with pytest.raises(CatalogueError, match=remedy):
        record(catalogue, model, Pin("main", files, "safetensors"))
    assert catalogue.read_bytes() == before


INDEXED = "qwen2.5-coder-0.5b-instruct-Q4_K_M"


def places(catalogue: Path, model: str) -> list[str]:
    models, problems = validate(read(catalogue), Models)
    assert models is not None, problems
    names = ("hub", "mirror", "index")
    return [next(n for n in names if getattr(place, n)) for place in models.models[model].places]


def test_a_new_pin_drops_the_wheels_of_the_old_bytes(catalogue):
    record(catalogue, INDEXED, Pin("c" * 40, [WantedFile("other.gguf", 10, "a" * 64)], "gguf"))
    assert places(catalogue, INDEXED) == ["hub"]


def test_the_same_bytes_at_another_revision_keep_the_wheels(catalogue):
    models, _ = validate(read(catalogue), Models)
    assert models is not None
    files = [WantedFile(f.path, f.size, f.sha256) for f in models.models[INDEXED].files]
    record(catalogue, INDEXED, Pin("c" * 40, files, "gguf"))
    assert places(catalogue, INDEXED) == ["hub", "index"]


@pytest.mark.parametrize(
    ("model", "remedy"), [("tiny-codegen", "leave --write out"), ("none", "add it first")]
)
def test_an_index_is_recorded_only_where_it_belongs(catalogue, model, remedy):
    before = catalogue.read_bytes()
    with pytest.raises(CatalogueError, match=remedy):
        record_index(catalogue, model, {})
    assert catalogue.read_bytes() == before


def test_a_pin_takes_the_place_of_a_hubs_own_revision(catalogue):
    catalogue.write_text(
        catalogue.read_text().replace(
            "- hub: Qwen/Qwen2.5-Coder-0.5B", "- revision: old\n        hub: Qwen/Qwen2.5-Coder-0.5B", 1
        )
    )
    record(catalogue, INDEXED, Pin("c" * 40, FILES, "gguf"))
    models, problems = validate(read(catalogue), Models)
    assert models is not None, problems
    assert models.models[INDEXED].places[0].revision is None
