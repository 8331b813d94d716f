"""Prompts: a conversation in which speech answers each of the user's texts, as a matrix of integers.

A column is a position of the context. Row 0 holds token ids; rows 1..K hold the codes of a position that is speech,
else 0. The layout is that of Fish Speech 1.5 (Liao et al., 2024):

    <|im_start|>system\\n Speak out the provided text. <|im_end|>
    <|im_start|>user\\n TEXT <|im_end|> <|im_start|>assistant\\n <|voice|> CODES <|im_end|>    one turn a reference,
    ...                                                                                       then one an earlier chunk
    <|im_start|>user\\n TEXT <|im_end|> <|im_start|>assistant\\n <|voice|>                      the chunk to speak
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fishcli.errors import InputError
from fishcli.lm.tokenizer import Tokenizer
from fishcli.request import Reference, as_codes
from fishcli.text import clean

Columns = npt.NDArray[np.int64]  # (K + 1, T)

_SYSTEM = "Speak out the provided text."


class PromptBuilder:
    """Builds the prompts of one checkpoint.

    A frame of speech has `codebooks` codes, each from 0 to `codes` - 1; the context holds `max_seq_len` positions.
    `frame_rate` (Hz) serves messages that tell lengths in seconds.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, codebooks: int, codes: int, max_seq_len: int, frame_rate: float
    ) -> None:
        self.tokenizer = tokenizer
        self.codebooks = codebooks
        self.codes = codes
        self.max_seq_len = max_seq_len
        self.frame_rate = frame_rate
        end = self._special("<|im_end|>")
        self._system = np.concatenate([self._role("system"), self._text(_SYSTEM), end], axis=1)
        self._user = self._role("user")
        self._answer = np.concatenate([end, self._role("assistant"), self._special("<|voice|>")], axis=1)

    def prefix(self, references: Sequence[Reference]) -> Columns:
        """Return the columns (K + 1, T) that all prompts in one voice begin with: system message, references.

        Raises InputError for codes that the codec cannot have made.
        """
        turns = (self.turn(self.question(reference.text), reference.codes) for reference in references)
        return np.concatenate([self._system, *turns], axis=1)

    def question(self, text: str) -> Columns:
        """Return the columns (K + 1, T) of a text and of the start of its answer, up to where the speech begins."""
        return np.concatenate([self._user, self._text(clean(text)), self._answer], axis=1)

    def turn(self, question: Columns, codes: npt.NDArray[np.integer]) -> Columns:
        """Return the columns (K + 1, T) of a question and of the speech that answers it, codes (K, frames).

        Raises InputError for codes that the codec cannot have made, and for none.
        """
        return np.concatenate([question, self._speech(codes), self._special("<|im_end|>")], axis=1)

    def build(self, question: Columns, prefix: Columns, earlier: Sequence[Columns] = (), reserve: int = 0) -> Columns:
        """Return the prompt (K + 1, T) for a question after a `prefix`, which leaves `reserve` positions free.

        `earlier` are the turns of the chunks before this one, as `fit` leaves them. Raises InputError when there is
        no room.
        """
        prompt = np.concatenate([prefix, *earlier, question], axis=1)
        if (excess := prompt.shape[1] + reserve - self.max_seq_len) > 0:
            raise InputError(self._no_room(prefix, excess))
        return prompt

    def fit(self, question: Columns, prefix: Columns, earlier: Sequence[Columns], reserve: int) -> list[Columns]:
        """Return the turns of earlier chunks that a prompt has room for: all of them, else the first and the latest.

        The first anchors the voice. Where some must go, the latest keep half of the room: if each chunk pushed
        out one other, everything after the first would have to be computed anew each time. Raises InputError when
        there is no room even without them.
        """
        room = self.max_seq_len - reserve - self.build(question, prefix, (), reserve).shape[1]
        widths = [turn.shape[1] for turn in earlier]
        if sum(widths) <= room:
            return list(earlier)
        first = 1 if widths[0] <= room else 0
        left, start = room // 2 - sum(widths[:first]), len(earlier)
        while start > first and widths[start - 1] <= left:
            start -= 1
            left -= widths[start]
        return [*earlier[:first], *earlier[start:]]

    def _no_room(self, prefix: Columns, excess: int) -> str:
        semantic = self.tokenizer.semantic
        spoken = int(((prefix[0] >= semantic) & (prefix[0] < semantic + self.codes)).sum())  # frames of references
        written = prefix.shape[1] - spoken - self._system.shape[1]
        if spoken < written:  # a second of speech is 21 frames and about four tokens
            return (
                f"The transcripts of the references take {written:,} of the {self.max_seq_len:,} positions of this "
                "model's context; a transcript is only what is said in its recording."
            )
        if spoken <= excess:
            return (
                f"The text is too long for one prompt of this model ({self.max_seq_len} positions); "
                "use a smaller chunk length."
            )
        return (
            f"The references last {spoken / self.frame_rate:.0f} s, but only "
            f"{(spoken - excess) / self.frame_rate:.0f} s fit into this model's context; "
            "use a shorter recording or fewer of them."
        )

    def _role(self, name: str) -> Columns:
        return np.concatenate([self._special("<|im_start|>"), self._text(f"{name}\n")], axis=1)

    def _speech(self, codes: npt.NDArray[np.integer]) -> Columns:
        """Return a column for each frame: the token id of its first code, then its codes."""
        rows = as_codes(codes, self.codebooks, self.codes).astype(np.int64)
        return np.concatenate([self.tokenizer.semantic + rows[:1], rows])

    def _text(self, text: str) -> Columns:
        return self._tokens(self.tokenizer.encode(text))

    def _special(self, name: str) -> Columns:
        return self._tokens([self.tokenizer.special(name)])

    def _tokens(self, ids: Sequence[int]) -> Columns:
        """Return columns of tokens without codes."""
        columns = np.zeros((self.codebooks + 1, len(ids)), np.int64)
        columns[0] = ids
        return columns
