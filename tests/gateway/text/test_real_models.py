"""Real GGUF models of the catalogue: their ids against llama.cpp's own server."""

import random

import pytest

from gateway.text.llama_tokenizer import LlamaTokenizer
from gateway.text.loading import load_tokenizer
from stackfile.catalogue import ROOT
from testing import needs
from testing.models import SMALL, fetched
from testing.servers.llama_server import running_llama
from tests.serving.test_llama_server import ask, ready

pytestmark = pytest.mark.scenario


def corpus() -> list[str]:
    """Return code, the same with CRLF, and characters from all of Unicode; the same in every run."""
    code = [file.read_text("utf-8") for file in sorted((ROOT / "gateway" / "text").glob("*.py"))]
    dice = random.Random(1)
    ranges = [(1, 128), (128, 0xD800), (0xE000, 0x110000)]
    unicode = ["".join(chr(dice.randrange(*dice.choice(ranges))) for _ in range(400)) for _ in range(20)]
    return [*code, *(text.replace("\n", "\r\n") for text in code), *unicode]


@pytest.mark.parametrize("model", SMALL)
def test_ids_and_text_are_llama_cpps_own(model: str):
    needs.package("xllamacpp")
    folder = fetched(model)
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
