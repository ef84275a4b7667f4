"""Prompts are fitted into the context: the end is kept, whole lines where that is cheap, suffixes share."""

import pytest

from gateway.errors import ApiError
from gateway.text.fim import FimTemplate
from gateway.text.prompt import Prompt, PromptBuilder

LINES = "".join(f"x{i} = {i}\n" for i in range(200))
FIM = FimTemplate(("<P>", "{prefix}", "<S>", "{suffix}", "<M>"), ("<P>", "<S>", "<M>"))


def builder(tiny, *, fim=None, context=64, truncate=True) -> PromptBuilder:
    return PromptBuilder(tiny, fim, context, truncate=truncate)


async def test_a_long_prompt_keeps_its_end_from_a_line_start(tiny):
    built = await builder(tiny).build(Prompt(text=LINES), 16)
    text = tiny.decode(built.ids)
    assert built.truncated
    assert len(built.ids) <= 48
    assert LINES.endswith(text)
    assert text.startswith("x")


async def test_without_line_ends_exactly_the_room_is_filled(tiny):
    built = await builder(tiny).build(Prompt(text="a b " * 200), 16)
    assert len(built.ids) == 48


async def test_a_short_prompt_is_not_touched(tiny):
    built = await builder(tiny).build(Prompt(text="def f"), 16)
    assert not built.truncated
    assert built.ids == tiny.encode("def f")


async def test_max_tokens_shrinks_before_a_short_prompt_is_cut(tiny):
    built = await builder(tiny).build(Prompt(text="def f"), 5000)
    assert built.ids == tiny.encode("def f")
    assert built.max_tokens == 64 - len(built.ids)


async def test_a_tag_survives_truncation(tiny):
    built = await builder(tiny).build(Prompt(text=LINES, tag="<python>"), 16)
    assert tiny.decode(built.ids).startswith("<python>")


async def test_strict_settings_refuse_in_fauxpilots_words(tiny):
    with pytest.raises(
        ApiError, match=r"maximum context length is 64, however you requested \d+ tokens"
    ) as caught:
        await builder(tiny, truncate=False).build(Prompt(text=LINES), 16)
    assert caught.value.status == 400
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("ids", [[-1], [999_999], [2**40]])
async def test_ids_outside_the_vocabulary_are_refused(tiny, ids):
    with pytest.raises(ApiError, match="out of vocabulary"):
        await builder(tiny).build(Prompt(ids=ids), 4)


@pytest.mark.parametrize(("left", "kept"), [(True, [4, 5, 6, 7]), (False, [0, 1, 2, 3])])
async def test_explicit_truncation_keeps_the_asked_end(tiny, left, kept):
    built = await builder(tiny).build(Prompt(ids=range(8), keep=4, cut_left=left), 1)
    assert built.ids == kept


async def test_a_suffix_without_a_template_is_refused_and_an_empty_one_is_none(tiny):
    with pytest.raises(ApiError, match="cannot fill in the middle") as caught:
        await builder(tiny).build(Prompt(text="def f", suffix="SECRET"), 4)
    assert (caught.value.status, caught.value.param) == (400, "suffix")
    built = await builder(tiny).build(Prompt(text="def f", suffix=""), 4)
    assert built.ids == tiny.encode("def f")
    assert not built.fim


async def test_a_prompt_of_ids_has_a_suffix_too(tiny):
    built = await builder(tiny, fim=FIM).build(Prompt(ids=tiny.encode("ab"), suffix="cd"), 4)
    assert tiny.decode(built.ids) == "<P>ab<S>cd<M>"


async def test_a_template_joins_prefix_and_suffix(tiny):
    built = await builder(tiny, fim=FIM).build(Prompt(text="ab<S>", suffix="cd"), 4)
    assert built.fim
    assert tiny.decode(built.ids) == "<P>ab<S>cd<M>"


async def test_prefix_and_suffix_share_the_room(tiny):
    built = await builder(tiny, fim=FIM, context=128).build(Prompt(text=LINES, suffix=LINES), 16)
    text = tiny.decode(built.ids)
    prefix, _, suffix = text.removeprefix("<P>").removesuffix("<M>").partition("<S>")
    assert len(built.ids) <= 112
    assert LINES.endswith(prefix)
    assert prefix
    assert LINES.startswith(suffix)
    assert suffix


async def test_other_files_come_before_the_prompt_for_models_with_a_separator(tiny):
    fim = FimTemplate(FIM.pieces, FIM.stop, "<|file_sep|>")
    prompt = Prompt(text="ab", suffix="cd", files=[("u.py", "x=1")])
    built = await builder(tiny, fim=fim, context=256).build(prompt, 4)
    assert tiny.decode(built.ids) == "<|file_sep|>u.py\nx=1<P>ab<S>cd<M>"


async def test_a_huge_prompt_is_cut_before_it_is_tokenised(tiny):
    built = await builder(tiny).build(Prompt(text="word " * 800_000), 16)
    assert built.truncated
    assert len(built.ids) <= 48


async def test_ids_and_texts_make_one_prompt(tiny):
    built = await builder(tiny).build(Prompt(parts=[5, "def f", 6]), 4)
    assert built.ids == [5, *tiny.encode("def f"), 6]


MEGABYTE = "def f(x):\n    return x + 1\n" * 40_000


@pytest.fixture
def encoded(tiny, monkeypatch) -> list[int]:
    """Give the lengths of the texts that were encoded."""
    lengths, encode = [], tiny.encode
    monkeypatch.setattr(tiny, "encode", lambda text: lengths.append(len(text)) or encode(text))
    return lengths


async def test_of_a_megabyte_no_more_is_encoded_than_fits(tiny, encoded):
    whole = tiny.encode(MEGABYTE)
    encoded.clear()
    built = await builder(tiny).build(Prompt(text=MEGABYTE), 16)
    assert sum(encoded) < len(MEGABYTE) / 10
    assert whole[-len(built.ids) :] == built.ids
    assert 40 < len(built.ids) <= 48
    assert built.truncated


async def test_a_text_of_few_tokens_is_encoded_to_its_beginning(tiny):
    """The bound is in characters, so a text of long tokens needs a second try."""
    spaces = " " * 200_000
    count = len(tiny.encode(spaces))
    built = await builder(tiny, context=count + 32).build(Prompt(text=spaces), 16)
    assert len(built.ids) == count
    assert not built.truncated


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(text=MEGABYTE),
        Prompt(text=MEGABYTE, suffix="\n"),
        Prompt(text="def f", suffix=MEGABYTE),
        Prompt(parts=[5, MEGABYTE, "x"]),
    ],
    ids=["text", "prefix", "suffix", "parts"],
)
async def test_a_megabyte_is_refused_or_cut_without_encoding_it_all(tiny, encoded, prompt):
    with pytest.raises(ApiError, match=r"requested at least \d+ tokens") as caught:
        await builder(tiny, fim=FIM, truncate=False).build(prompt, 16)
    assert caught.value.code == "context_length_exceeded"
    assert sum(encoded) < len(MEGABYTE) / 5
    built = await builder(tiny, fim=FIM).build(prompt, 16)
    assert built.truncated
    assert len(built.ids) <= 48


async def test_the_kept_end_of_a_megabyte_is_the_one_that_was_asked_for(tiny):
    text = "first " + MEGABYTE + "last"
    ids = tiny.encode(text)
    for cut_left, kept in ((True, ids[-4:]), (False, ids[:4])):
        built = await builder(tiny).build(Prompt(text=text, keep=4, cut_left=cut_left), 1)
        assert built.ids == kept


async def test_ids_before_a_part_that_is_cut_are_checked(tiny):
    with pytest.raises(ApiError, match="out of vocabulary"):
        await builder(tiny).build(Prompt(parts=[-1, MEGABYTE]), 4)
