"""Recent complete answers of each caller, for people who type what was proposed.

When the text before the cursor has grown by the beginning of an earlier answer, greedy generation would give
the rest of that answer again, so it is given without the engine. Only the caller's own answers count. Prompts
are kept as digests.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from gateway.completion.types import Choice, CompletionRequest

_CALLERS = 256
_PER_CALLER = 8
_MAX_CHARS = 4096


@dataclass(frozen=True, slots=True)
class _Kept:
    kind: bytes
    length: int
    digest: bytes
    text: str
    stop: str | None
    expires: float

    def begins(self, text: str) -> bool:
        """Return whether ``text`` is this answer's prompt and a beginning of the answer.

        The same prompt again is a question for the engine: who repeats it may want to know that it works.
        """
        typed = text[self.length :]
        proposed = 0 < len(typed) < len(self.text) and self.text.startswith(typed)
        return proposed and _digest(text[: self.length]) == self.digest


class RecentAnswers:
    """Answers of at most 256 callers, eight each, for ``ttl_s`` seconds; 0 keeps none."""

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s, self._clock = ttl_s, clock
        self._by_caller: OrderedDict[str, deque[_Kept]] = OrderedDict()

    def find(self, caller: str, request: CompletionRequest) -> Choice | None:
        """Return the rest of an earlier answer where this caller's prompt has grown by its beginning."""
        self._forget_expired()
        kept = self._by_caller.get(caller)
        if not kept or not _repeatable(request):
            return None
        text, kind = request.prompts[0].text or "", _kind(request)
        for each in reversed(kept):
            if each.kind == kind and each.begins(text):
                rest = each.text[len(text) - each.length :]
                return Choice(0, rest, finish_reason="stop", stop=each.stop)
        return None

    def keep(self, caller: str, request: CompletionRequest, choice: Choice) -> None:
        """Keep an answer that ended by itself; one that was cut at its limit could be continued."""
        usable = self._ttl_s > 0 and choice.finish_reason == "stop" and 0 < len(choice.text) <= _MAX_CHARS
        if not usable or not _repeatable(request):
            return
        text = request.prompts[0].text or ""
        kept = self._by_caller.setdefault(caller, deque(maxlen=_PER_CALLER))
        self._by_caller.move_to_end(caller)
        expires = self._clock() + self._ttl_s
        kept.append(_Kept(_kind(request), len(text), _digest(text), choice.text, choice.stop, expires))
        if len(self._by_caller) > _CALLERS:
            self._by_caller.popitem(last=False)

    def _forget_expired(self) -> None:
        """Drop what has expired, of every caller: texts are not kept longer than is said."""
        now = self._clock()
        for caller, kept in list(self._by_caller.items()):
            while kept and kept[0].expires <= now:
                kept.popleft()
            if not kept:
                del self._by_caller[caller]


def _repeatable(request: CompletionRequest) -> bool:
    """Return whether the same prompt has one right answer, of which only the text is wanted."""
    sampling = request.sampling
    greedy = sampling.temperature == 0 or sampling.top_k == 1
    plain = request.rows == 1 and len(request.prompts) == 1 and request.prompts[0].text is not None
    only_text = not request.echo and request.logprobs is None and not request.token_ids
    return greedy and plain and only_text


def _kind(request: CompletionRequest) -> bytes:
    """Return a digest of all that must be the same, but for the text before the cursor."""
    prompt = request.prompts[0]
    context = (prompt.suffix, prompt.tag, prompt.files, prompt.keep, prompt.cut_left)
    options = (request.max_tokens, request.sampling, tuple(request.stops), request.model, request.constraint)
    return _digest(repr((context, options)))


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
