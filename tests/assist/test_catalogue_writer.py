"""Pinning records what the hub said, keeps the rest of the file, and never half."""

import shutil
from pathlib import Path

import pytest

from assist.catalogue_writer import CatalogueError, record
from model_loader.plan import WantedFile
from stackfile.catalogue import DIRECTORY, Models
from stackfile.document import read
from stackfile.validation import validate

FILES = [WantedFile("model.safetensors", 10, "a" * 64), WantedFile("config.json", 5, "b" * 64)]


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return Path(shutil.copy(DIRECTORY / "models.yaml", tmp_path))


def test_a_pinned_model_is_read_back_with_its_checksums_and_commit(catalogue):
    assert record(catalogue, "codegen-350M-mono", "c" * 40, FILES)
    models, problems = validate(read(catalogue), Models)
    assert models is not None
    assert problems == []
    facts = models.models["codegen-350M-mono"]
    assert facts.pinned
    assert facts.revision == "c" * 40
    assert [file.path for file in facts.files] == ["config.json", "model.safetensors"]


def test_only_the_pinned_model_changes_and_comments_stay(catalogue):
    before = catalogue.read_text().splitlines()
    record(catalogue, "codegen-350M-mono", "c" * 40, FILES)
    after = catalogue.read_text().splitlines()
    start = next(i for i, line in enumerate(before) if "codegen-350M-mono:" in line)
    end = next(i for i, line in enumerate(before) if "codegen-2B-multi:" in line)
    assert after[:start] == before[:start]
    assert after[-(len(before) - end) :] == before[end:]


def test_pinning_twice_changes_nothing(catalogue):
    record(catalogue, "codegen-350M-mono", "c" * 40, FILES)
    assert not record(catalogue, "codegen-350M-mono", "c" * 40, FILES)


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
        record(catalogue, model, "main", files)
    assert catalogue.read_bytes() == before
