"""Text that arrives over time, cut into chunks that can be spoken before the rest is there.

Chunk ends depend on the text and on the places of `flush` alone, never on how the text was cut into pieces. So each
decision waits for the text that it reads, and reads a bounded stretch of it: the sentence so far and the next word.
"""

import regex

from fishcli.errors import SettingError
from fishcli.request import Span
from fishcli.text.chunks import CHUNK_BYTES, UNSPACED, ends_sentence, even_cuts, segmented
from fishcli.text.cleaning import check_length, legible, speakable
from fishcli.text.language import guess_language
from fishcli.text.language_codes import check_language
from fishcli.text.lines import end_lines
from fishcli.text.markup import plain
from fishcli.text.normalize import normalize as written_out
from fishcli.text.script import finished_chunks, readable

_LOOKAHEAD = 64  # characters; a longer next word, such as an address, is judged by its start
_LOOKBACK = 400  # characters of the sentence that are searched for open quotes
_SAMPLE = 1000  # characters at the start of the text that tell its language
_SHORTEST_BOUND, _LONGEST_BOUND = 256, 4000  # characters after which a sentence without an end is cut

_WORD = regex.compile(r"\S")
_CLOSING = r"""[\p{M}\p{Pe}\p{Pf}\p{Sentence_Terminal}…．，,،;؛:"'*_~¹²³⁰⁴-⁹\u200d]"""
_POSSIBLE_END = regex.compile(rf"(?<={_CLOSING})(?!{_CLOSING})(?=.)|(?=[\n\u2029])", regex.DOTALL)
_TERMINAL_MARK = regex.compile(rf"[\p{{Sentence_Terminal}}…．](?:{_CLOSING}|\s|\[\^?\w{{1,3}}){{0,16}}\Z")
_SILENT = regex.compile(rf"(?<={_CLOSING})(?:\[\^?\w{{1,3}}\]|[*_~¹²³⁰⁴-⁹])+\Z")  # markup and footnotes after the end
_CLOSING_QUOTE = regex.compile(r"""["'\p{Pf}\p{Pe}]\Z""")
_BLANK_LINE = regex.compile(r"[^\S\n]*\n[^\S\n]*\n|\s*\u2029")
_NEXT_WORD = regex.compile(r"""(\s*)([\p{Pi}\p{Ps}"']*)(\S*)(\s?)""")
_LINE_START = regex.compile(r"\s*\n\s*(?:(?:\p{N}{1,3}[.)]|[-*+•‣]|#{1,6})(?:\s|\Z)|\|)")  # of a list, heading, table
_HEADING = regex.compile(r"[^\S\n]*#{1,6}\s")
_LABEL = regex.compile(r"(?:\A|\n)\s*\p{N}{1,3}[.)]\Z")


class IncrementalScript:
    """Cuts a text into chunks while it arrives: each sentence, or each piece of a long one, is a chunk.

    A sentence is complete when the next word is, or in scripts without spaces when the next character is there. A blank
    line and the next item of a list end it too. A sentence of more than four times `chunk_length` characters (at
    least 256, at most 4,000) is cut without waiting for its end, so memory is bounded. A complete sentence is
    normalised, and cut by `split` where it has more than `chunk_length` UTF-8 bytes. Marks alone join the sentence that
    follows. Without `language` it is guessed from the first 1,000 characters, as far as the sentence's end.

    The positions of a span count characters of the whole text as it is normalised. The time is linear.
    """

    def __init__(self, chunk_length: int = CHUNK_BYTES, language: str | None = None, normalize: bool = True) -> None:
        if chunk_length < 1:
            raise SettingError(f"The chunk length is {chunk_length} bytes and must be at least 1.")
        check_language(language)
        self._chunk_length, self._language, self._normalize = chunk_length, language, normalize
        self._bound = min(max(_SHORTEST_BOUND, 4 * chunk_length), _LONGEST_BOUND)
        self._sample = ""  # the start of all that was fed
        self._text = ""  # what was fed and is not yet returned
        self._before = 0  # characters that were fed before `_text`
        self._start = 0  # of the current sentence, in `_text`
        self._column = 0  # of the current sentence, in its line
        self._scanned = 0  # the sentence does not end before this place, in `_text`
        self._position = 0  # of the current sentence, in the normalised text

    def feed(self, text: str) -> list[Span]:
        """Return the chunks that are complete with this piece of text.

        Raises InputError for a piece with control characters, or one that makes the text longer than MAX_CHARACTERS.
        It is refused as a whole; other pieces may follow.
        """
        fed = self._before + len(self._text)
        check_length(fed + len(text))
        text = legible(text, fed)
        self._text += text
        self._sample += text[: _SAMPLE - len(self._sample)]
        spans = self._complete_sentences(ended=False)
        self._forget()
        return spans

    def flush(self) -> list[Span]:
        """Return the chunks of all that was fed and not yet returned: the sentence ends here."""
        spans = self._complete_sentences(ended=True)
        if speakable(self._text[self._start :]):
            spans += self._end_sentence(len(self._text))
        self._forget()
        return spans

    def close(self) -> list[Span]:
        """Return the last chunks; a text with nothing to speak has none."""
        return self.flush()

    def _complete_sentences(self, ended: bool) -> list[Span]:
        spans: list[Span] = []
        while (end := self._next_end(ended)) is not None:
            spans += self._end_sentence(end)
        return spans

    def _next_end(self, ended: bool) -> int | None:
        """Return where the current sentence ends, None if that is not known yet."""
        self._skip_spaces()
        last = self._start + self._bound
        while found := _POSSIBLE_END.search(self._text, max(self._scanned, self._start + 1), last + 1):
            self._scanned = found.start()
            is_end = self._ends_at(self._scanned, ended)
            if is_end is None:
                return None
            if is_end:
                return self._scanned
            self._scanned += 1
        self._scanned = max(self._scanned, min(len(self._text), last + 1))
        return self._start + _half(self._text[self._start : last]) if len(self._text) > last else None

    def _skip_spaces(self) -> None:
        word = _WORD.search(self._text, self._start)
        start = word.start() if word else len(self._text)
        self._position += start - self._start
        self._advance(start)

    def _ends_at(self, place: int, ended: bool) -> bool | None:
        """Return whether the current sentence ends at a place, None if that is not known yet."""
        sentence, ahead = self._text[self._start : place], self._text[place : place + _LOOKAHEAD]
        if not speakable(sentence):
            return False
        if _BLANK_LINE.match(ahead):
            return True
        terminal = _TERMINAL_MARK.search(sentence[-20:]) is not None
        if not terminal and ahead[0] != "\n":
            return False
        word = _next_word(ahead, ended)
        if word is None:
            return None
        if _LINE_START.match(ahead) or (ahead[0] == "\n" and _HEADING.match(sentence)):
            return True
        return terminal and not _LABEL.search(sentence) and _separate(sentence, *word, self._language_at(place))

    def _language_at(self, place: int) -> str:
        """Return the language of a sentence that ends at a place in `_text`."""
        sample = self._sample[: self._before + place]
        language = self._language or guess_language(plain(sample) if self._normalize else sample)
        if self._before + place >= _SAMPLE:
            self._language = language
        return language

    def _end_sentence(self, end: int) -> list[Span]:
        """Return the chunks of the current sentence and start the next one."""
        sentence, language = self._text[self._start : end].rstrip(), self._language_at(end)
        spaces = end - self._start - len(sentence)
        if self._normalize:
            sentence = end_lines(written_out(readable(sentence, self._column), language))
        sentence, spans = finished_chunks(sentence, self._chunk_length, language, self._normalize)
        position = self._position
        self._position += len(sentence) + spaces
        self._advance(end)
        return [span._replace(start=position + span.start, end=position + span.end) for span in spans]

    def _advance(self, start: int) -> None:
        """Let the current sentence start at a later place in `_text`."""
        newline = self._text.rfind("\n", self._start, start)
        self._column = start - newline - 1 if newline >= 0 else self._column + start - self._start
        self._start = start

    def _forget(self) -> None:
        """Drop the text that was returned."""
        self._text = self._text[self._start :]
        self._before += self._start
        self._scanned = max(0, self._scanned - self._start)
        self._start = 0


def _next_word(ahead: str, ended: bool) -> tuple[str, str] | None:
    """Return the spaces at the start of `ahead` and the word after them without opening quotes; None if it goes on.

    In scripts without spaces a character is a word.
    """
    spaces, opening, word, after = next(_NEXT_WORD.finditer(ahead)).groups()
    if word and (not spaces or UNSPACED.match(word)):
        return spaces, word[0]
    return (spaces, word or opening) if after or ended or len(ahead) == _LOOKAHEAD else None


def _separate(sentence: str, spaces: str, word: str, language: str) -> bool:
    """Return whether `word`, after `spaces`, starts a sentence of its own."""
    if not word:
        return True
    if word[0].islower() and _CLOSING_QUOTE.search(sentence):  # “Why?” he asked.
        return False
    before = _SILENT.sub("", sentence[-_LOOKBACK:]) + spaces
    return len(before) in segmented(before + word, language) and ends_sentence(before + word, len(before))


def _half(text: str) -> int:
    """Return a good place to cut a text in two."""
    size = len(text.encode("utf-8"))
    return list(even_cuts(text, 0, size * 3 // 4))[-1]
