"""The catalogue against the files themselves, for real GGUF models."""

import pytest

from model_loader.inspection import gguf_header
from stackfile.catalogue import ModelFacts, models
from testing import needs
from testing.models import SMALL, fetched

pytestmark = pytest.mark.scenario

# llama.cpp's llama_token_type: control tokens, and those that the model's makers added.
CONTROL = {3, 4}


@pytest.fixture(scope="module", params=SMALL)
def entry(request: pytest.FixtureRequest) -> tuple[ModelFacts, gguf_header.Header]:
    facts = models()[request.param]
    return facts, gguf_header.read(fetched(request.param) / facts.files[0].path)


def test_the_shape_is_that_of_the_header(entry):
    facts, header = entry
    heads = header.shape("attention.head_count")
    width = header.shape("attention.key_length", header.shape("embedding_length") // heads)
    assert facts.architecture == header.metadata["general.architecture"]
    assert facts.layers == header.shape("block_count")
    assert facts.context_length == header.shape("context_length")
    assert facts.kv_width == header.shape("attention.head_count_kv", heads) * width
    assert (facts.width, facts.heads) == (header.shape("embedding_length"), heads)
    assert facts.vocabulary == len(header.metadata["tokenizer.ggml.tokens"])


def test_the_precision_and_the_number_of_parameters_are_those_of_the_tensors(entry):
    gguf = needs.package("gguf")
    facts, header = entry
    kind = gguf.LlamaFileType(header.metadata["general.file_type"])
    assert [*facts.memory_gib] == [kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")]
    # A file may have the embedding a second time, as the output of a model that ties both.
    total = sum(header.elements.values())
    assert facts.parameters in {total, total - header.elements.get("output.weight", 0)}


def test_the_stop_tokens_and_sentinels_are_control_tokens_of_the_vocabulary(entry):
    facts, header = entry
    texts = header.metadata["tokenizer.ggml.tokens"]
    kinds = dict(zip(texts, header.metadata["tokenizer.ggml.token_type"], strict=True))
    assert texts[header.metadata["tokenizer.ggml.eos_token_id"]] in facts.stop
    assert {kinds.get(token) for token in (*facts.stop, *(facts.fim.stop if facts.fim else ()))} <= CONTROL


def test_the_licence_is_that_of_the_header_where_it_has_one(entry):
    facts, header = entry
    stated = header.metadata.get("general.license")
    assert stated is None or stated == facts.licence.lower()
