"""Token ids from llama.cpp's stream, also when it holds tokens back."""

import pytest

from testing import needs


@pytest.fixture
def reader(tmp_path):
    """Return a function that writes a GGUF file with a vocabulary and returns its reader."""
    gguf = needs.package("gguf")
    from serving.backend.runtimes.llama_token_ids import TokenIdReader

    def write(model, tokens):
        writer = gguf.GGUFWriter(tmp_path / "model.gguf", "phi2")
        writer.add_tokenizer_model(model)
        writer.add_token_list(tokens)
        byte, normal = gguf.TokenType.BYTE, gguf.TokenType.NORMAL
        writer.add_token_types([byte if token.startswith("<0x") else normal for token in tokens])
        writer.add_eos_token_id(0)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return TokenIdReader(tmp_path / "model.gguf")

    return write


def chunk(text, token, data, log_prob=-1.0):
    entry = {"id": token, "bytes": list(data), "logprob": log_prob}
    return {"choices": [{"text": text, "logprobs": {"content": [entry]}}]}


def test_a_chunk_of_one_token_is_that_token(reader):
    assert reader("gpt2", ["a", "b"]).tokens(chunk("b", 1, b"b")) == [(1, -1.0)]


def test_held_byte_tokens_of_sentencepiece_are_found_again(reader):
    found = reader("llama", ["a", "<0xE2>", "<0x82>", "<0xAC>"])
    assert [token for token, _ in found.tokens(chunk("€", 3, b"\xac"))] == [1, 2, 3]


def test_held_tokens_of_a_byte_level_vocabulary_are_found_again(reader):
    # GPT-2 writes the bytes E2 82 AC as these three characters.
    found = reader("gpt2", ["x", "âĤ", "¬"])
    assert [token for token, _ in found.tokens(chunk("€", 2, b"\xac"))] == [1, 2]


def test_the_last_chunk_has_no_token(reader):
    assert reader("gpt2", ["x"]).tokens({"choices": [{"text": "", "logprobs": None}]}) == []


def test_a_file_without_a_configuration_beside_it_is_asked_for_its_vocabulary(reader, tmp_path):
    from serving.backend.runtimes.llama_cpp import _vocabulary

    reader("gpt2", ["x", "y", "z"])
    assert _vocabulary(tmp_path / "model.gguf") == (3, 0)


def test_a_file_without_a_vocabulary_is_refused(tmp_path):
    from serving.backend.runtimes.llama_cpp import _vocabulary

    gguf = needs.package("gguf")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "phi2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match="no vocabulary"):
        _vocabulary(tmp_path / "model.gguf")
