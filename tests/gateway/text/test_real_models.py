"""The GGUF models of the catalogue that are in the store: their ids against llama.cpp's own server."""

import os
import random
from pathlib import Path

import pytest

from assist.paths import Paths
from gateway.text.llama_tokenizer import LlamaTokenizer
from gateway.text.loading import load_tokenizer
from stackfile.catalogue import ROOT, models
from testing import needs
from testing.servers.llama_server import running_llama
from tests.serving.test_llama_server import ask, ready

STORE = Path(os.environ.get("MODEL_STORE", Paths().store))
FETCH = "model-loader fetch qwen2.5-coder-0.5b-instruct-Q4_K_M --store .run/models"


def stored() -> list[Path]:
    """Return the folders of the models that are in the store."""
    folders = [
        STORE / name / str(facts.revision) for name, facts in models().items() if facts.format == "gguf"
    ]
    return [folder for folder in folders if (folder / "manifest.json").is_file()]


def corpus() -> list[str]:
    """Return code, the same with CRLF, and characters from all of Unicode; the same in every run."""
    code = [file.read_text("utf-8") for file in sorted((ROOT / "gateway" / "text").glob("*.py"))]
    dice = random.Random(1)
    ranges = [(1, 128), (128, 0xD800), (0xE000, 0x110000)]
    unicode = ["".join(chr(dice.randrange(*dice.choice(ranges))) for _ in range(400)) for _ in range(20)]
    return [*code, *(text.replace("\n", "\r\n") for text in code), *unicode]


@pytest.mark.parametrize("folder", stored() or [None], ids=lambda folder: folder and folder.parent.name)
def test_ids_and_text_are_llama_cpps_own(folder: Path | None):
    if folder is None:
        needs.skip(f"no GGUF model of the catalogue is in {STORE}", FETCH)
    needs.package("xllamacpp")
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, LlamaTokenizer)
    texts = [*corpus(), "x".join(tokenizer.control_texts)]
    with running_llama(folder, context=256) as (server, _):
        ready(server)
        for text in texts:
            for control in (False, True):
                request = {"content": text, "add_special": not control, "parse_special": control}
                made = tokenizer.encode_control(text) if control else tokenizer.encode(text)
                assert made == ask(server, "/tokenize", request)["tokens"]
            ids = [token for token in tokenizer.fragment(text) if tokenizer.bytes_of(token)]
            assert tokenizer.decode(ids) == ask(server, "/detokenize", {"tokens": ids})["content"]
