"""Decoding, stop strings and sequences give the same result however the text is chunked."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engine.base import TokenChunk
from gateway.text.fim import FimTemplate
from gateway.text.language import language_of, without_incomplete_line
from gateway.text.loading import load_tokenizer
from gateway.text.output_sequence import OutputSequence
from gateway.text.stops import StopMatcher
from tests.gateway.conftest import TINY
from tests.gateway.replay import RECORDINGS

VECTORS = json.loads((RECORDINGS / "tokenizer_stopwords.json").read_text("utf-8"))
GITLAB = json.loads((RECORDINGS / "gitlab_2023_codegen.json").read_text("utf-8"))
TOKENIZER = load_tokenizer(TINY)
ALPHABET = "ab\n# é日😀"


def stopped(text: str, stops: list[str]) -> str:
    """Return the text before the stop that ends first: the definition, written plainly."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(found)[1]] if found else text


def push_all(matcher: StopMatcher, pieces: list[str]) -> str:
    out = "".join(matcher.push(piece) for piece in pieces)
    return out if matcher.matched else out + matcher.flush()


@settings(max_examples=300)
@given(
    st.lists(st.text(ALPHABET, max_size=6), max_size=8),
    st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=4),
)
def test_a_stop_cuts_at_the_same_place_for_any_pieces(pieces, stops):
    assert push_all(StopMatcher(stops), pieces) == stopped("".join(pieces), stops)


@settings(max_examples=200)
@given(st.text(ALPHABET, max_size=20), st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3))
def test_no_character_of_a_stop_is_let_out_before_it_is_certain(text, stops):
    matcher, out = StopMatcher(stops), ""
    for character in text:
        out += matcher.push(character)
        assert stopped(text, stops).startswith(out)


def deltas(ids: list[int], cuts: list[int], stops: list[str], limit: int) -> dict:
    """Push ids in the given chunks and return all that a client would see."""
    row, text, entries, reasons, count = OutputSequence(0, TOKENIZER, stops, limit, 7), "", [], [], 0
    bounds = [0, *sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]
    for start, end in pairwise(bounds):
        piece = ids[start:end]
        delta = row.push(TokenChunk(0, piece, [-0.5 * token for token in piece], final=end == len(ids)))
        text, entries, count = text + delta.text, entries + delta.entries, count + delta.tokens
        reasons += [delta.finish_reason] if delta.finish_reason else []
    return {"text": text, "entries": entries, "reasons": reasons[:1], "tokens": count}


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 2060), max_size=20),
    st.lists(st.integers(0, 1000), max_size=5),
    st.lists(st.sampled_from(["\n", "e", " a", "\n\n", "�"]), max_size=2),
    st.integers(1, 24),
)
def test_a_row_is_the_same_for_any_pieces_of_any_tokens(ids, cuts, stops, limit):
    assert deltas(ids, cuts, stops, limit) == deltas(ids, [], stops, limit)


@settings(max_examples=150)
@given(st.text(max_size=60))
def test_text_that_is_encoded_decodes_to_itself(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_user_text_never_becomes_a_control_token():
    assert TOKENIZER.eos_id not in TOKENIZER.encode("<|endoftext|>")
    assert TOKENIZER.encode_control("<|endoftext|>") == [TOKENIZER.eos_id]


def test_ids_past_the_vocabulary_decode_to_nothing():
    assert TOKENIZER.decode([70, 999_999, -1, 71]) == TOKENIZER.decode([70, 71])


def test_an_incomplete_character_at_the_end_is_dropped_in_both_modes():
    ids = TOKENIZER.encode("a😀")[:-1]
    assert deltas(ids, [], [], 50)["text"] == deltas(ids, [1, 2, 3], [], 50)["text"] == "a"


@pytest.mark.parametrize("case", VECTORS["cases"], ids=[repr(c["text"][:20]) for c in VECTORS["cases"]])
def test_codegens_tokenizer_gives_the_recorded_ids(codegen, case):
    assert codegen.encode_control(case["text"]) == case["ids"]
    assert codegen.decode(case["ids"]) == case["decode_skip_special"]


@pytest.mark.parametrize(
    "case", VECTORS["utf8_streaming"], ids=[c["text"] for c in VECTORS["utf8_streaming"]]
)
def test_split_characters_are_held_back_and_add_up(codegen, case):
    row, seen = OutputSequence(0, codegen, [], 50), ""
    for position, token in enumerate(case["ids"]):
        seen += row.push(TokenChunk(0, [token], final=position == len(case["ids"]) - 1)).text
        assert "�" not in seen
    assert seen == case["text"]


@pytest.mark.parametrize("case", VECTORS["token_vs_text_stop"])
def test_a_stop_is_found_in_the_text_even_where_its_tokens_are_not(codegen, case):
    row = OutputSequence(0, codegen, [case["stop"]], 50)
    delta = row.push(TokenChunk(0, case["generated_ids"], final=True))
    assert delta.text == stopped(case["generated_text"], [case["stop"]])
    assert (delta.stop is not None) == case["text_contains_stop"]


@pytest.mark.parametrize(
    "case", GITLAB["language_prefix"], ids=[c["file_name"] for c in GITLAB["language_prefix"]]
)
def test_a_file_name_has_the_recorded_language(case):
    assert language_of(case["file_name"]) == case["lang"]


@pytest.mark.parametrize(("text", "expected"), GITLAB["remove_incomplete_lines"])
def test_an_incomplete_last_line_is_cut_unless_it_is_the_only_one(text, expected):
    assert without_incomplete_line(text) == expected


def test_sentinels_are_removed_from_user_text():
    template = FimTemplate.parse('{"template": "<P>{prefix}<S>{suffix}<M>", "stop": ["<P>", "<S>", "<M>"]}')
    assert template.clean("a<P>b<M>") == "ab"
    assert template.pieces == ("<P>", "{prefix}", "<S>", "{suffix}", "<M>")


@pytest.mark.parametrize("text", ["<P>{prefix}", "<P>{prefix}{prefix}{suffix}"])
def test_a_template_without_both_holes_is_refused(text):
    with pytest.raises(ValueError, match="exactly once"):
        FimTemplate.parse(text)
