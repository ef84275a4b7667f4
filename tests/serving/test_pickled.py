"""Pickled checkpoints, written and listed by a real torch: converted to the same bytes, or refused unread."""

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.support import random_codegen
from serving.convert import ConversionError, convert, pickled
from serving.convert.checkpoint import Checkpoint
from stackfile.catalogue import models
from stackfile.memory import Use, layer_group
from testing import needs, torch_environment
from testing.cgroup import MIB, memory_group
from testing.servers.triton import TINY
from tests.serving.test_conversion_memory import CONVERSIONS, SCALED, measured

_DOCUMENTS = ("config.json", "tokenizer.json", "tokenizer_config.json")
# Writes files that are no table of tensors as torch maps them, and one that is.
_ODD = """
import sys, torch
folder, table = sys.argv[1], {"a": torch.ones(3)}
torch.save(table, f"{folder}/old.bin", _use_new_zipfile_serialization=False)
torch.save([torch.ones(3)], f"{folder}/list.bin")
torch.save({"model": table}, f"{folder}/nested.bin")
torch.save(table, f"{folder}/whole.bin")
"""


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    needs.package("ctranslate2")
    monkeypatch.setenv(pickled.VARIABLE, str(torch_environment.python()))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the small model with its weights pickled."""
    folder = tmp_path_factory.mktemp("pickled")
    for name in _DOCUMENTS:
        shutil.copy(TINY / name, folder)
    torch_environment.pickle_weights(TINY / "model.safetensors", folder)
    return folder


def converted(source: Path, target: Path, conversion: tuple[str, str]) -> dict[str, bytes]:
    needs.package("onnx" if conversion[0] == "onnxruntime" else "ctranslate2")
    target.mkdir()
    convert(source, target, *conversion)
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("conversion", CONVERSIONS, ids="-".join)
def test_every_format_has_the_bytes_that_it_has_from_safetensors(tiny, tmp_path, conversion):
    wanted = converted(TINY, tmp_path / "safetensors", conversion)
    assert converted(tiny, tmp_path / "pickled", conversion) == wanted


def test_a_view_and_a_type_of_another_width_are_found_in_the_file(tmp_path):
    program = """
import sys, torch
table = torch.arange(24, dtype=torch.float32).reshape(6, 4)
torch.save({"table": table, "tail": table[2:], "half": table.bfloat16(), "turned": table.t(),
            "mask": torch.ones(3, dtype=torch.bool)}, sys.argv[1])
"""
    (tmp_path / "config.json").write_text("{}")
    torch_environment.run(program, tmp_path / "pytorch_model.bin")
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.source("tail").load().tolist() == [
        [8, 9, 10, 11],
        [12, 13, 14, 15],
        [16, 17, 18, 19],
        [20, 21, 22, 23],
    ]
    assert checkpoint.source("half").rows(1, 2).tolist() == [[4, 5, 6, 7]]
    with pytest.raises(ConversionError, match="not stored row by row"):
        checkpoint.source("turned")
    with pytest.raises(ConversionError, match="bool"):
        checkpoint.source("mask")


def test_a_pickle_that_asks_for_more_is_refused_by_name_and_nothing_of_it_runs(tiny, tmp_path):
    source, marker = tmp_path / "source", tmp_path / "ran"
    shutil.copytree(tiny, source)
    torch_environment.run(torch_environment.MALICIOUS, source / "pytorch_model.bin", marker)
    (target := tmp_path / "target").mkdir()
    with pytest.raises(ConversionError, match=r"posix\.system.*none of it ran.*safetensors"):
        convert(source, target, "ctranslate2", "int8")
    assert not marker.exists()
    assert not any(target.iterdir())


def rewritten(file: Path, compression: int = zipfile.ZIP_STORED, **parts: bytes) -> None:
    """Write a zip file anew, with other contents of the named parts."""
    with zipfile.ZipFile(file) as old:
        contents = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(file, "w", compression) as new:
        for name, data in contents.items():
            new.writestr(name, parts.get(Path(name).name, data))


def test_what_torch_would_not_map_as_tensors_is_refused_with_the_cause(tmp_path):
    torch_environment.run(_ODD, tmp_path)
    whole = tmp_path / "whole.bin"
    for name in ("deflated", "big", "pickle", "cut"):
        shutil.copy(whole, tmp_path / f"{name}.bin")
    rewritten(tmp_path / "deflated.bin", zipfile.ZIP_DEFLATED)
    rewritten(tmp_path / "big.bin", byteorder=b"big")
    rewritten(tmp_path / "pickle.bin", **{"data.pkl": b"\x80\x02}q\x00U"})
    (tmp_path / "cut.bin").write_bytes(whole.read_bytes()[:-200])
    causes = {
        "old": "since 1.6", "list": "table of tensors", "nested": "table of tensors", "deflated": "compressed",
        "big": "big-endian", "cut": "cut off", "pickle": "", "missing": "cut off",
    }  # fmt: skip
    answers = pickled._answers([tmp_path / f"{name}.bin" for name in (*causes, "whole")])
    for cause, answer in zip(causes.values(), answers[:-1], strict=True):
        assert set(answer) == {"error"}
        assert cause in answer["error"]
    assert [entry["name"] for entry in answers[-1]["tensors"]] == ["a"]
    with pytest.raises(ConversionError, match=r"list\.bin.*table of tensors.*fetch it again"):
        list(pickled.tensors([whole, tmp_path / "list.bin"]))


def test_an_interpreter_without_torch_is_named_with_its_own_message(tiny, monkeypatch):
    monkeypatch.setenv(pickled.VARIABLE, sys.executable)
    with pytest.raises(ConversionError, match="No module named 'torch'"):
        list(pickled.tensors([tiny / "pytorch_model.bin"]))


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = random_codegen.make(tmp_path_factory.mktemp("safetensors") / "model", SCALED)
    target = tmp_path_factory.mktemp("scaled")
    torch_environment.pickle_weights(source / "model.safetensors", target, 2)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(source / name, target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("conversion", CONVERSIONS[::2], ids="-".join)
def test_a_conversion_takes_what_it_takes_from_safetensors(scaled, tmp_path, conversion):
    before, peak, _ = measured(scaled, tmp_path / "out", conversion)
    assert (peak - before) * MIB <= 1.3 * layer_group(SCALED["n_embd"])


@pytest.mark.slow
def test_torch_and_the_conversion_stay_within_the_loaders_limit(scaled, tmp_path):
    facts = models()["codegen-350M-multi"].model_copy(update={"format": "pickle"})
    with memory_group(Use(facts, "ctranslate2", "int8", context=2048, slots=1).loader) as group:
        measured(scaled, tmp_path / "out", ("ctranslate2", "int8"), group)
        assert group.killed == 0
