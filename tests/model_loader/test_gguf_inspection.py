"""What a GGUF header says, and that no header, however damaged, costs more than itself."""

import json
import re
import struct
import tracemalloc
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as some

from model_loader.errors import LoaderError, ModelError
from model_loader.inspection import checkpoint_facts, gguf_facts, gguf_header
from model_loader.sources.protocols import FolderSource
from serving.backend.gguf_header import TENSOR_TYPES
from testing import small_gguf

QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
MOST = 4 * 1024 * 1024


def facts(file: Path) -> gguf_facts.Facts:
    return gguf_facts.facts(gguf_header.read(file), file.stat().st_size)


@pytest.mark.parametrize(
    "architecture", ["llama", "qwen2", "qwen3", "starcoder2", "granite", "gemma", "phi3"]
)
def test_the_shape_is_that_of_the_header(tmp_path, architecture):
    file = small_gguf.write(
        tmp_path / "m.gguf", architecture, more=lambda writer: writer.add_head_count_kv(2)
    )
    found = facts(file)
    assert found.licence == "apache-2.0"
    assert {key: found.values[key] for key in ("architecture", "context_length", "layers", "kv_width")} == {
        "architecture": architecture,
        "context_length": small_gguf.CONTEXT,
        "layers": small_gguf.LAYERS,
        "kv_width": 2 * small_gguf.WIDTH // small_gguf.HEADS,
    }
    assert found.values["parameters"] == 5 * small_gguf.WIDTH
    assert found.values["memory_gib"] == {"F16": 0.0001}


def test_widths_of_keys_and_of_each_layer_count(tmp_path):
    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_head_count_kv([2, 4])
        writer.add_key_length(192)
        writer.add_value_length(128)

    assert facts(small_gguf.write(tmp_path / "m.gguf", "deepseek2", more=more)).values["kv_width"] == 4 * 160


@pytest.mark.parametrize(
    ("name", "special", "template"),
    [
        ("m", QWEN, "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"),
        (
            "m",
            ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"),
            "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
        ),
        (
            "mellum-4b",
            ("<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"),
            "<fim_suffix>{suffix}<fim_prefix>{prefix}<fim_middle>",
        ),
        (
            "seed-coder",
            ("<end>", "<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"),
            "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
        ),
    ],
)
def test_the_fill_in_the_middle_template_is_that_of_the_vocabulary(tmp_path, name, special, template):
    fim = facts(small_gguf.write(tmp_path / f"{name}.gguf", special=special)).values["fim"]
    assert fim["template"] == template
    assert {special[0], *re.split(r"\{prefix\}|\{suffix\}", template)} - {""} <= set(fim["stop"])


def test_sentinels_that_the_file_names_are_used(tmp_path):
    def more(writer: gguf.GGUFWriter) -> None:
        for at, part in enumerate(("pre", "suf", "mid"), start=4):
            writer.add_uint32(f"tokenizer.ggml.fim_{part}_token_id", at)

    file = small_gguf.write(tmp_path / "m.gguf", special=("<end>", "<P>", "<S>", "<M>"), more=more)
    assert facts(file).values["fim"]["template"] == "<P>{prefix}<S>{suffix}<M>"


def test_words_are_no_sentinels(tmp_path):
    plain = facts(small_gguf.write(tmp_path / "m.gguf"))
    assert plain.values["fim"] is None
    assert plain.values["stop"] == ["<|endoftext|>"]
    assert plain.values["chat_template"] is False


def test_a_chat_template_and_a_second_end_are_seen(tmp_path):
    file = small_gguf.write(
        tmp_path / "m.gguf", special=QWEN, more=lambda writer: writer.add_chat_template("{{ messages }}")
    )
    assert facts(file).values["chat_template"] is True
    assert facts(file).values["stop"] == ["<|endoftext|>", "<|im_end|>"]


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (lambda writer: writer.add_type("adapter"), "adapter"),
        (lambda writer: writer.add_uint16("split.count", 3), "3 parts"),
        (lambda writer: writer.add_context_length(0), "context_length"),
    ],
)
def test_a_part_of_a_model_and_a_useless_one_are_refused(tmp_path, add, reason, monkeypatch):
    monkeypatch.setattr(gguf.GGUFWriter, "add_key_value", _overriding)
    file = small_gguf.write(tmp_path / "m.gguf", more=add)
    with pytest.raises(ModelError, match=reason):
        facts(file)


def _overriding(self, key, val, vtype, sub_type=None):
    self.kv_data[0][key] = gguf.gguf_writer.GGUFValue(value=val, type=vtype, sub_type=sub_type)


def test_text_that_is_not_utf_8_is_read(tmp_path):
    data = small_gguf.write(tmp_path / "m.gguf").read_bytes()
    file = tmp_path / "odd.gguf"
    file.write_bytes(data.replace(b"<|endoftext|>", b"\xff\xfeendoftext|>").replace(b"apache", b"\xc3apach"))
    found = facts(file)
    assert found.licence == "apach-2.0"
    assert len(found.values["stop"]) == 1


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    data = small_gguf.write(tmp_path / "m.gguf").read_bytes()
    file = tmp_path / "cut.gguf"
    for length in {*range(0, len(data) - 64, 37), len(data) // 2, 0, 3, 23, 24}:
        file.write_bytes(data[:length])
        with pytest.raises(ModelError):
            facts(file)


@pytest.mark.parametrize("count", [2**20, 2**40, 2**63, 2**64 - 1])
def test_enormous_counts_are_refused_at_once(tmp_path, count):
    data = small_gguf.write(tmp_path / "m.gguf").read_bytes()
    at_key = data.index(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens")
    places = [8, 16, 24, at_key + 8, data.index(b"tokenizer.ggml.token_type") + 25 + 8]
    file = tmp_path / "huge.gguf"
    for at in places:
        file.write_bytes(data[:at] + struct.pack("<Q", count) + data[at + 8 :])
        tracemalloc.start()
        with pytest.raises(ModelError):
            gguf_header.read(file)
        assert tracemalloc.get_traced_memory()[1] < MOST
        tracemalloc.stop()


def test_a_sparse_file_behind_an_enormous_count_costs_nothing(tmp_path):
    data = small_gguf.write(tmp_path / "m.gguf").read_bytes()
    at = data.index(b"tokenizer.ggml.tokens") + 21 + 8
    file = tmp_path / "sparse.gguf"
    file.write_bytes(data[:at] + struct.pack("<Q", 2**40) + b"\0" * 8)
    with file.open("r+b") as stream:
        stream.truncate(2**43)
    with pytest.raises(ModelError, match="items of an array"):
        gguf_header.read(file)


def test_arrays_within_arrays_end(tmp_path):
    nested = struct.pack("<IQ", 9, 1) * 5000
    key = struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9)
    file = tmp_path / "deep.gguf"
    file.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + key + nested)
    with pytest.raises(ModelError, match="within each other"):
        gguf_header.read(file)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a GGUF file"),
        (b"PK\3\4" + b"\0" * 40, "not a GGUF file"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "big-endian"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 0), "architecture"),
    ],
)
def test_another_format_is_named(tmp_path, data, reason):
    file = tmp_path / "m.gguf"
    file.write_bytes(data)
    with pytest.raises(ModelError, match=reason):
        facts(file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return small_gguf.write(tmp_path_factory.mktemp("whole") / "m.gguf", special=QWEN).read_bytes()


@given(data=some.data())
def test_damage_is_either_harmless_or_refused(whole, tmp_path_factory, data):
    damaged = bytearray(whole)
    places = some.integers(0, len(whole) - 1)
    for at in data.draw(some.lists(places, min_size=1, max_size=6)):
        damaged[at] = data.draw(some.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "damaged.gguf"
    file.write_bytes(damaged)
    try:
        found = facts(file)
    except LoaderError:
        return
    assert found.values["layers"] > 0


def test_values_of_another_type_than_the_keys_are_no_crash(tmp_path):
    header = gguf_header.read(small_gguf.write(tmp_path / "m.gguf"))
    header.metadata["general.file_type"] = [1]
    assert gguf_facts.facts(header, 2**20).values["memory_gib"].keys() == {"F16"}
    for wrong in (3, "text", [[3]]):
        header.metadata["tokenizer.ggml.token_type"] = wrong
        with pytest.raises(ModelError, match="token_type"):
            gguf_facts.facts(header, 2**20)


@pytest.mark.parametrize(
    "entry",
    [
        {"data_offsets": [0, "9"], "shape": [2]}, {"data_offsets": [0, 8], "shape": ["a", 2]},
        {"data_offsets": [0, 8], "shape": [1e400]}, {"data_offsets": 8, "shape": [2]}, [],
    ],
    ids=str,
)  # fmt: skip
def test_a_checkpoints_header_of_other_types_is_refused_and_no_crash(tmp_path, entry):
    text = json.dumps({"x": entry}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelError, match=r"is not a safetensors file|is cut off"):
        checkpoint_facts._parameters(FolderSource(tmp_path), file.name, file.stat().st_size)


def test_the_tables_are_those_of_the_gguf_package():
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        assert TENSOR_TYPES[kind.value] == (kind.name, block, size)
    names = {kind.value: kind.name.split("_", 1)[1] for kind in gguf.LlamaFileType if kind.name != "GUESSED"}
    assert names == gguf_facts.FILE_TYPES
