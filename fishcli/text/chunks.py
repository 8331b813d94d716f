"""Chunking: cut a text in any script into chunks that are spoken one by one.

Positions count characters (code points) of the given text.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

import regex

from fishcli.errors import SettingError
from fishcli.request import Span
from fishcli.text.cleaning import speakable
from fishcli.text.language import guess_language

CHUNK_BYTES = 200  # the default of the reference implementation


def split(text: str, limit: int = CHUNK_BYTES, language: str | None = None) -> list[Span]:
    """Return the chunks of a text that passed `check`: at most `limit` UTF-8 bytes each, with a letter or a number.

    A blank line always ends a chunk. Sentences share a chunk while they fit. A sentence that does not fit is cut into
    pieces of about equal size: at newlines, else after clauses, else at spaces, else anywhere in scripts without
    spaces, else between graphemes. Only a single grapheme can exceed the limit. Punctuation alone joins the chunk
    before or after it; where neither has room it is left out. The time is linear. Raises SettingError for a limit
    below 1.
    """
    if limit < 1:
        raise SettingError(f"The chunk length is {limit} bytes and must be at least 1.")
    language = language or guess_language(text)
    chunks: list[_Range] = []
    for start, end in _paragraphs(text):
        sentences = _between(text, start, end, _sentence_ends(text, start, end, language))
        pieces = [piece for sentence in sentences for piece in _pieces(text, *sentence, limit, language)]
        chunks += _packed(text, pieces, limit)
    spans = _speakable_chunks(text, chunks, limit)
    return [Span(_SPACES.sub(" ", text[start:end]), start, end) for start, end in spans]


_Range = tuple[int, int]

_SPACES = regex.compile(r"\s+")


def _paragraphs(text: str) -> Iterator[_Range]:
    blank_lines = (run.end() for run in _SPACES.finditer(text) if run[0].count("\n") > 1 or "\u2029" in run[0])
    return _between(text, 0, len(text), blank_lines)


def _between(text: str, start: int, end: int, cuts: Iterable[int]) -> Iterator[_Range]:
    """Yield the parts of start..end between ascending cuts: stripped of spaces, and none empty."""
    for left, right in pairwise((start, *cuts, end)):
        part = text[left:right]
        if stripped := part.strip():
            left += len(part) - len(part.lstrip())
            yield left, left + len(stripped)


# Sentences. `sentencex` knows the abbreviations of many languages. It takes a quotation as one sentence, so a sentence
# that is too long is segmented again with its quotes and brackets blanked. Its time is quadratic on a run of open
# quotes, hence the window.

_WINDOW = 4000
_QUOTES = str.maketrans(dict.fromkeys('"“”„«»‹›「」『』()（）[]', " "))
_CLOSING = regex.compile(r"""[\p{M}\p{Pe}\p{Pf}.!?…。．！？,،;؛:\u200d]""")
_ABBREVIATION = regex.compile(
    r"(?<![\w.])(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Gov|Sen|Rep|vs|approx|ca|cf|e\.g|i\.e)\.\s*\Z",
    regex.IGNORECASE,
)
_BEFORE_NUMBER = regex.compile(
    r"(?<![\w.])(?:op|tel|rs|b|d|c|ca|lbs?|oz|ft|yd|figs?|nos|vols?|pp?|pg|chap|ch|secs?|eq|art|ext|rm|apt|paras?|par|ed|est|"
    r"max|min|tabs?|temp|fn|rte|fl|qty|rev|bldg|ste|ph|pt|(?-i:Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)|"
    r"cat|ver|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|nr|bd|abb|kap|abs|núm|pág|cap|"
    r"(?<!\b(?:said|say|says|answered|replied|is|was|but|oh),?\s+)no)\.\s*\Z",
    regex.IGNORECASE,
)


def _sentence_ends(text: str, start: int, end: int, language: str) -> Iterator[int]:
    """Yield the positions inside start..end where one sentence ends and the next begins."""
    for position in segmented(text[start:end], language):
        if ends_sentence(text, start + position):
            yield start + position


def segmented(text: str, language: str) -> Iterator[int]:
    """Yield the inner boundaries that `sentencex` finds, window by window; each window starts at the last boundary."""
    import sentencex

    start = 0
    while start < len(text):
        window = text[start : start + _WINDOW]
        ends = list(accumulate(map(len, sentencex.segment(language, window)), initial=start))[1:-1]
        yield from ends
        # The last sentence may go on after the window. A window of one sentence is skipped as a whole.
        start = ends[-1] if ends and start + _WINDOW < len(text) else start + _WINDOW


def ends_sentence(text: str, position: int) -> bool:
    """Return whether a boundary keeps words, addresses, closing marks and abbreviations whole."""
    before, after = text[position - 1], text[position]
    if _CLOSING.match(after) or before == "\u200d":
        return False
    if before.isascii() and not before.isspace() and not after.isspace() and (before == "." or after.isascii()):
        return False
    if (after.isdigit() or after.islower()) and _BEFORE_NUMBER.search(text[max(0, position - 24) : position]):
        return False  # Op. 27
    return _ABBREVIATION.search(text[max(0, position - 12) : position]) is None


def _pieces(text: str, start: int, end: int, limit: int, language: str) -> Iterator[_Range]:
    """Yield the sentence, or its pieces where it has more than `limit` bytes."""
    if _size(text, start, end) <= limit:
        yield start, end
        return
    unquoted = text[start:end].translate(_QUOTES)
    ends = [start + at for at in segmented(unquoted, language) if ends_sentence(text, start + at)]
    for left, right in _between(text, start, end, ends):
        yield from _between(text, left, right, even_cuts(text[left:right], left, limit))


def _size(text: str, start: int, end: int) -> int:
    return len(text[start:end].encode("utf-8"))


# The places where a long sentence may be cut, best first: the index of the alternative that matches is the rank.
# Thai, Lao, Khmer, Burmese, Tibetan, Chinese and Japanese are written without spaces.
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー]")
_CUTS = regex.compile(
    r"""
      (\n\s*)                                                    # 1 a line of a list or a verse
    | ((?:[,;:!?،؛؟।](?=["'”’»)\]\s])|\.\.\.?(?=\s)|[、，；：。！？…—―])   # 2 a clause
       ["'”’»)\]）」』】》、，；：。！？…—―]*\s*
      |[)\]）」』】》]\s+ |\s+[–-]\s+)
    | ((?<![.\p{N}\s])\s++(?!\p{N}))                             # 3 a space, but not in "Dr. Who", "No. 5" or "12 kg"
    | (\s+)                                                      # 4 any space
    | ((?<!LEADING)(?!TRAILING)(?:(?<=UNSPACED)(?=[\w(（「『《“])|(?<=\w)(?=UNSPACED)))   # 5 unspaced script
    """.replace("UNSPACED", UNSPACED.pattern)
    .replace("LEADING", "[เแโใไ]")  # vowels that Thai writes before their consonant
    .replace(
        "TRAILING", "[ーぁぃぅぇぉっゃゅょァィゥェォッャュョะาำๆฯ]"
    ),  # characters that never start a line in Japanese and Thai
    regex.VERBOSE,
)
_WORST = 6


def even_cuts(sentence: str, offset: int, limit: int) -> Iterator[int]:
    """Yield cuts that make pieces of at most `limit` bytes, as even as the good places to cut allow."""
    edges = [0, *_grapheme_ends(sentence)]
    sizes = [0, *accumulate(_size(sentence, left, right) for left, right in pairwise(edges))]
    ranks = {cut.end(): cut.lastindex or _WORST for cut in _CUTS.finditer(sentence)}
    here = 0
    while sizes[-1] - sizes[here] > limit:
        rest = sizes[-1] - sizes[here]
        target = sizes[here] + rest / math.ceil(rest / limit)
        last = max(here + 1, bisect_right(sizes, sizes[here] + limit) - 1)
        half = max(here + 1, bisect_left(sizes, (sizes[here] + target) / 2))
        places = [(ranks.get(edges[i], _WORST), abs(sizes[i] - target), i) for i in range(here + 1, last + 1)]
        # A piece smaller than half the target is right only where it keeps a word whole.
        best = min(places[half - here - 1 :], default=places[-1])
        here = (best if best[0] < _WORST else min(places))[2]
        yield offset + edges[here]


_GRAPHEME = regex.compile(r"\X")


def _grapheme_ends(text: str) -> Iterator[int]:
    """Yield the end of each grapheme cluster. Small windows, because `regex` is quadratic on a run of flags."""
    start, width = 0, 128
    while start < len(text):
        ends = [start + grapheme.end() for grapheme in _GRAPHEME.finditer(text[start : start + width])]
        if start + width < len(text):
            ends.pop()  # it may go on after the window
        yield from ends
        start, width = (ends[-1], 128) if ends else (start, width * 2)


def _packed(text: str, pieces: list[_Range], limit: int) -> list[_Range]:
    """Return the pieces joined into chunks while they fit; the last two chunks are balanced."""
    groups: list[list[_Range]] = []
    size = 0
    for piece in pieces:
        grown = size + _size(text, groups[-1][-1][1], piece[1]) if groups else limit + 1
        if grown <= limit:
            groups[-1].append(piece)
            size = grown
        else:
            groups.append([piece])
            size = _size(text, *piece)
    if len(groups) > 1:
        _balance(text, *groups[-2:])
    return [(group[0][0], group[-1][1]) for group in groups]


def _balance(text: str, first: list[_Range], second: list[_Range]) -> None:
    """Move pieces from the end of one chunk to the start of the next while the first stays the larger."""
    while len(first) > 1:
        moved = first[-1][0]
        if _size(text, moved, second[-1][1]) > _size(text, first[0][0], first[-2][1]):
            return
        second.insert(0, first.pop())


def _speakable_chunks(text: str, chunks: list[_Range], limit: int) -> list[_Range]:
    """Return the chunks, those of punctuation alone joined to the one before or after, or left out without room."""
    kept: list[_Range] = []
    for start, end in chunks:
        if kept and not (speakable(text[start:end]) and speakable(text[slice(*kept[-1])])):
            joined = kept[-1][0], end
            if _size(text, *joined) <= limit:
                kept[-1] = joined
                continue
        kept.append((start, end))
    return [chunk for chunk in kept if speakable(text[slice(*chunk)])]
