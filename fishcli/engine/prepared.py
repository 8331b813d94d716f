"""A request prepared once: normalised, chunked, tokenized and checked, before any model runs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fishcli import text
from fishcli.engine.references import warn_about
from fishcli.errors import InputError
from fishcli.lm.prompt import Columns, PromptBuilder
from fishcli.request import FISH_SPEECH, Codes, Request, SamplingParams, Script, Span, TextFeed

_OPEN_RESERVE = 1024  # frames kept free for a chunk that may last as long as the context holds
_FEED_CONTEXT = 4096  # positions of a text that arrives over time, whose length nobody knows


class Prepared:
    """A request as the engine runs it. `script` is None for a text that arrives over time.

    Raises InputError for text or references that cannot be used.
    """

    def __init__(self, request: Request, prompts: PromptBuilder, sampling: SamplingParams = FISH_SPEECH) -> None:
        self.request = request.complete(sampling)
        self.prefix = prompts.prefix(request.references)  # (K + 1, T): what every prompt begins with
        self.cached: tuple[Tensor, Tensor] | None = None  # keys and values of the prefix
        self.context = prompts.max_seq_len
        self.codebooks, self.codes, self.frame_rate = prompts.codebooks, prompts.codes, prompts.frame_rate
        self._prompts = prompts
        limit = request.sampling.max_new_tokens
        self._reserve = min(limit or _OPEN_RESERVE, self.context // 2)
        self.script = _script(request)
        if self.script is None and self.context > _FEED_CONTEXT:
            self._reserve += self.context - _FEED_CONTEXT
            self.context = _FEED_CONTEXT
        self._questions: dict[str, Columns] = {}  # each chunk, tokenized
        self.earlier: tuple[Columns, ...] = ()  # the turns of the chunks before the text
        if request.iterative_prompt:
            self.earlier = tuple(prompts.turn(prompts.question(each.text), each.codes) for each in request.earlier)
        for span in self.spans or [Span(".", 0, 1)]:  # of a text to come, at least the references have to fit
            self.check(span)
        warn_about(request.references, prompts.frame_rate)

    @property
    def spans(self) -> Sequence[Span]:
        """The chunks of the text, as far as it is known."""
        return self.script.spans if self.script else ()

    def check(self, span: Span) -> None:
        """Tokenize a chunk. Raises InputError where the context has no room for it."""
        self._questions[span.text] = question = self._prompts.question(span.text)
        self._prompts.build(question, self.prefix, (), self._reserve)

    @property
    def largest(self) -> int:
        """The positions of the largest sequence."""
        if self.script is None or self.request.iterative_prompt:
            return self.positions(self.spans)
        return max((self.positions([span]) for span in self.spans), default=0)

    def prompt(self, span: Span, earlier: Sequence[Columns]) -> tuple[Columns, list[Columns]]:
        """Return the prompt (K + 1, T) of a chunk and the earlier turns that fit into it."""
        question = self._questions[span.text]
        kept = self._prompts.fit(question, self.prefix, earlier, self._reserve) if earlier else []
        return self._prompts.build(question, self.prefix, kept, self._reserve), kept

    def turn(self, span: Span, codes: Codes) -> Columns:
        """Return a chunk and its codes (K, T) as a later prompt repeats them."""
        return self._prompts.turn(self._questions[span.text], codes)

    def limit(self, width: int) -> int:
        """Return the most frames of a chunk whose prompt has `width` positions."""
        room = self.context - width
        return min(self.request.sampling.max_new_tokens or room, room)

    def positions(self, spans: Sequence[Span]) -> int:
        """Return the positions that a sequence needs for these chunks in one context; the whole context for ()."""
        if not spans:
            return self.context
        limit = self.request.sampling.max_new_tokens or self.context
        needed = sum(self._questions[span.text].shape[1] + limit + 1 for span in spans)  # 1: the end of a turn
        return min(self.prefix.shape[1] + sum(turn.shape[1] for turn in self.earlier) + needed, self.context)


def _script(request: Request) -> Script | None:
    """Return the chunks of a request's text, prepared here unless the caller has done so; None: they are to come."""
    if isinstance(request.text, TextFeed):
        return None
    if isinstance(request.text, Script):
        return request.text
    return text.prepare(request.text, request.chunk_length, request.language, request.normalize)


def no_room(needed: int, positions: int) -> InputError:
    """Return the error for a sequence that can never fit into the KV cache."""
    return InputError(
        f"The request needs {needed:,} positions of the KV cache, which has {positions:,}; "
        "use a shorter text or a smaller max_new_tokens, or raise kv_memory.",
        field="kv_memory",
    )
