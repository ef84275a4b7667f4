"""What a plan costs before the engine is asked."""

import pytest

from gateway.completion.completer import Completer
from gateway.completion.types import CompletionRequest
from gateway.engine.base import Sampling
from gateway.text.prompt import Prompt, PromptBuilder
from testing.doubles.instant_engine import InstantEngine


@pytest.mark.parametrize(("options", "times"), [({}, 0), ({"logprobs": 0}, 1), ({"echo": True}, 1)], ids=str)
async def test_a_prompt_is_decoded_only_for_its_echo_or_for_offsets(tiny, monkeypatch, options, times):
    """A long prompt takes the event loop milliseconds."""
    decoded, decode = [], tiny.decode
    monkeypatch.setattr(tiny, "decode", lambda ids: decoded.append(ids) or decode(ids))
    completer = Completer(InstantEngine(), tiny, PromptBuilder(tiny, None, 64, truncate=True))
    request = CompletionRequest(prompts=[Prompt(ids=[5, 6, 7])], max_tokens=4, sampling=Sampling(), **options)
    await completer.plan(request, 30, "id", None)
    assert len(decoded) == times
