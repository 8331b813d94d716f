"""The prompt: a conversation in which each user's text was answered by speech, as a matrix of integers.

Columns are positions. Row 0 holds token ids; rows 1..K hold the codes of a position that is speech, else 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fishcli.errors import InputError
from fishcli.lm.tokenizer import Tokenizer
from fishcli.request import Reference
from fishcli.text import clean

Columns = npt.NDArray[np.int64]  # (K + 1, T)

_SYSTEM = "Speak out the provided text."


class PromptBuilder:
    """Builds the prompts of one checkpoint: `codebooks` codes a column, at most `max_seq_len` columns in all.

    `frame_rate` (frames a second) only serves to tell people lengths in seconds.
    """

    def __init__(self, tokenizer: Tokenizer, codebooks: int, max_seq_len: int, frame_rate: float) -> None:
        self.tokenizer = tokenizer
        self.codebooks = codebooks
        self.max_seq_len = max_seq_len
        self.frame_rate = frame_rate

    def build(
        self, text: str, references: Sequence[Reference] = (), earlier: Sequence[Reference] = (), reserve: int = 0
    ) -> Columns:
        """The prompt (K + 1, T) that asks for `text` in the voice of `references`, leaving `reserve` columns free.

        `earlier` are the chunks of the same speech that were spoken so far, as `fitting` leaves them. Raises
        InputError when there is no room.
        """
        turns = map(self._turn, earlier)
        prompt = np.concatenate([self.opening(references), *turns, self._message("user", text), self._answer()], axis=1)
        if (excess := prompt.shape[1] + reserve - self.max_seq_len) > 0:
            raise InputError(self._no_room(references, excess))
        return prompt

    def opening(self, references: Sequence[Reference]) -> Columns:
        """What all prompts in a voice begin with."""
        return np.concatenate([self._message("system", _SYSTEM), *map(self._turn, references)], axis=1)

    def fitting(
        self, text: str, references: Sequence[Reference], earlier: Sequence[Reference], reserve: int
    ) -> list[Reference]:
        """The earlier chunks that a prompt has room for: all of them, else the first and the latest.

        The first anchors the voice. Where some must go, the latest keep half of the room: if each chunk pushed
        out one other, what follows the first would have to be computed anew each time.
        """
        room = self.max_seq_len - reserve - self.build(text, references).shape[1]
        widths = [self._turn(voice).shape[1] for voice in earlier]
        if sum(widths) <= room:
            return list(earlier)
        first = 1 if widths[0] <= room else 0
        left, start = room // 2 - sum(widths[:first]), len(earlier)
        while start > first and widths[start - 1] <= left:
            start -= 1
            left -= widths[start]
        return [*earlier[:first], *earlier[start:]]

    def _no_room(self, references: Sequence[Reference], excess: int) -> str:
        spoken = sum(voice.codes.shape[1] for voice in references)
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

    def _turn(self, voice: Reference) -> Columns:
        """A text and the speech that answered it."""
        return np.concatenate([self._message("user", voice.text), self._answer(voice.codes)], axis=1)

    def _message(self, role: str, text: str) -> Columns:
        return np.concatenate(
            [
                self._special("<|im_start|>"),
                self._text(f"{role}\n"),
                self._text(clean(text)),
                self._special("<|im_end|>"),
            ],
            axis=1,
        )

    def _answer(self, codes: npt.NDArray[np.integer] | None = None) -> Columns:
        """The assistant's message: whole with `codes`, else open for the model to go on."""
        opening = [self._special("<|im_start|>"), self._text("assistant\n"), self._special("<|voice|>")]
        closing = [] if codes is None else [self._speech(codes), self._special("<|im_end|>")]
        return np.concatenate([*opening, *closing], axis=1)

    def _speech(self, codes: npt.NDArray[np.integer]) -> Columns:
        if codes.ndim != 2 or len(codes) != self.codebooks:
            raise InputError(f"Codes must have the shape ({self.codebooks}, T), not {codes.shape}.")
        return np.concatenate([self.tokenizer.semantic + codes[:1].astype(np.int64), codes.astype(np.int64)])

    def _text(self, text: str) -> Columns:
        return self._plain(self.tokenizer.encode(text))

    def _special(self, name: str) -> Columns:
        return self._plain([self.tokenizer.special(name)])

    def _plain(self, ids: Sequence[int]) -> Columns:
        columns = np.zeros((self.codebooks + 1, len(ids)), np.int64)
        columns[0] = ids
        return columns
