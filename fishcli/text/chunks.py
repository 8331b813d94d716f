"""Text cut into chunks that are spoken one by one, in any script.

Positions count characters (code points) of the given text.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

import regex

from fishcli.errors import SettingError
from fishcli.request import Span
from fishcli.text.cleaning import check, finished, speakable
from fishcli.text.language import guess_language

CHUNK_BYTES = 200  # The reference's default.


def spoken(text: str, limit: int = CHUNK_BYTES, language: str | None = None) -> list[Span]:
    """The chunks as they are spoken: each with a final stop, which may exceed `limit`. See `check` and `split`."""
    return [span._replace(text=finished(span.text)) for span in split(check(text), limit, language)]


def split(text: str, limit: int = CHUNK_BYTES, language: str | None = None) -> list[Span]:
    """Cut a text that passed `check` into chunks of at most `limit` UTF-8 bytes, each with something to speak.

    A blank line always cuts. Sentences are packed together while they fit. One that does not fit is cut into
    even pieces at newlines, else after clauses, at spaces, in unspaced script anywhere, and as the last
    resort between graphemes; only a grapheme that is longer than the limit by itself exceeds it. Marks alone go to a
    neighbour, and are left out where none has room. The time is linear in the length of the text.
    """
    if limit < 1:
        raise SettingError(f"The chunk length is {limit} bytes and must be at least 1.")
    language = language or guess_language(text)
    chunks: list[_Range] = []
    for start, end in _paragraphs(text):
        sentences = _between(text, start, end, _sentence_ends(text, start, end, language))
        pieces = [piece for sentence in sentences for piece in _fitted(text, *sentence, limit, language)]
        chunks += _packed(text, pieces, limit)
    spans = _with_something_to_speak(text, chunks, limit)
    return [Span(_SPACES.sub(" ", text[start:end]), start, end) for start, end in spans]


_Range = tuple[int, int]

_SPACES = regex.compile(r"\s+")


def _paragraphs(text: str) -> Iterator[_Range]:
    blank_lines = (run.end() for run in _SPACES.finditer(text) if run[0].count("\n") > 1 or "\u2029" in run[0])
    return _between(text, 0, len(text), blank_lines)


def _between(text: str, start: int, end: int, cuts: Iterable[int]) -> Iterator[_Range]:
    """The parts of start..end between ascending cuts, without outer spaces and without empty ones."""
    for left, right in pairwise((start, *cuts, end)):
        part = text[left:right]
        if stripped := part.strip():
            left += len(part) - len(part.lstrip())
            yield left, left + len(stripped)


# Sentences. `sentencex` knows the abbreviations of many languages; it takes what is quoted as one sentence, so a
# sentence that is too long is looked at again with its quotes and brackets blanked. On a run of open
# quotes it is quadratic, hence the window.

_WINDOW = 4000
_QUOTES = str.maketrans(dict.fromkeys('"“”„«»‹›「」『』()（）[]', " "))
_CLOSING = regex.compile(r"""[\p{M}\p{Pe}\p{Pf}.!?…。．！？,،;؛:\u200d]""")
_ABBREVIATION = regex.compile(
    r"(?<![\w.])(?:Mr|Mrs|Ms|Dr|Prof|St|Mt|Gen|Col|Capt|Lt|Sgt|Rev|Hon|Gov|Sen|Rep|vs|approx|ca|cf|e\.g|i\.e)\.\s*\Z",
    regex.IGNORECASE,
)


def _sentence_ends(text: str, start: int, end: int, language: str) -> Iterator[int]:
    """Positions inside start..end where one sentence ends and the next begins."""
    for position in segmented(text[start:end], language):
        if ends_sentence(text, start + position):
            yield start + position


def segmented(text: str, language: str) -> Iterator[int]:
    """The inner boundaries that `sentencex` finds, window by window; each window starts at the last boundary."""
    import sentencex

    start = 0
    while start < len(text):
        window = text[start : start + _WINDOW]
        ends = list(accumulate(map(len, sentencex.segment(language, window)), initial=start))[1:-1]
        yield from ends
        # The last sentence may go on behind the window. A window of one sentence is passed over whole.
        start = ends[-1] if ends and start + _WINDOW < len(text) else start + _WINDOW


def ends_sentence(text: str, position: int) -> bool:
    """Whether a boundary keeps words, addresses, closing marks and abbreviations whole."""
    before, after = text[position - 1], text[position]
    if _CLOSING.match(after) or before == "\u200d":
        return False
    if before.isascii() and not before.isspace() and not after.isspace() and (before == "." or after.isascii()):
        return False
    return _ABBREVIATION.search(text[max(0, position - 12) : position]) is None


def _fitted(text: str, start: int, end: int, limit: int, language: str) -> Iterator[_Range]:
    """A sentence, or the pieces of at most `limit` bytes that it is cut into."""
    if _size(text, start, end) <= limit:
        yield start, end
        return
    unquoted = text[start:end].translate(_QUOTES)
    ends = [start + at for at in segmented(unquoted, language) if ends_sentence(text, start + at)]
    for left, right in _between(text, start, end, ends):
        yield from _between(text, left, right, even_cuts(text[left:right], left, limit))


def _size(text: str, start: int, end: int) -> int:
    return len(text[start:end].encode("utf-8"))


# Where a sentence that is too long may be cut, best first. The index of the alternative that matches is the rank.
# Thai, Lao, Khmer, Burmese, Tibetan, Chinese and Japanese are written without spaces.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}ー]"
_CUTS = regex.compile(
    r"""
      (\n\s*)                                                    # 1 a line of a list or a verse
    | ((?:[,;:!?،؛؟।](?=["'”’»)\]\s])|\.\.\.?(?=\s)|[、，；：。！？…—―])   # 2 a clause
       ["'”’»)\]）」』】》、，；：。！？…—―]*\s*
      |[)\]）」』】》]\s+ |\s+[–-]\s+)
    | ((?<![.\p{N}\s])\s++(?!\p{N}))                             # 3 a space, but not in "Dr. Who", "No. 5" or "12 kg"
    | (\s+)                                                      # 4 any space
    | ((?<!LEADING)(?!TRAILING)(?:(?<=UNSPACED)(?=[\w(（「『《“])|(?<=\w)(?=UNSPACED)))   # 5 unspaced script
    """.replace("UNSPACED", UNSPACED)
    .replace("LEADING", "[เแโใไ]")  # vowels that Thai writes before their consonant
    .replace(
        "TRAILING", "[ーぁぃぅぇぉっゃゅょァィゥェォッャュョะาำๆฯ]"
    ),  # what never starts a line in Japanese and Thai
    regex.VERBOSE,
)
_WORST = 6


def even_cuts(sentence: str, offset: int, limit: int) -> Iterator[int]:
    """Cuts that make pieces of at most `limit` bytes, as even as the good places to cut allow."""
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
        # A piece of less than half the size only to keep a word whole.
        best = min(places[half - here - 1 :], default=places[-1])
        here = (best if best[0] < _WORST else min(places))[2]
        yield offset + edges[here]


_GRAPHEME = regex.compile(r"\X")


def _grapheme_ends(text: str) -> Iterator[int]:
    """Where each grapheme cluster ends. In small windows: `regex` is quadratic on a run of flags."""
    start, width = 0, 128
    while start < len(text):
        ends = [start + grapheme.end() for grapheme in _GRAPHEME.finditer(text[start : start + width])]
        if start + width < len(text):
            ends.pop()  # It may go on behind the window.
        yield from ends
        start, width = (ends[-1], 128) if ends else (start, width * 2)


def _packed(text: str, pieces: list[_Range], limit: int) -> list[_Range]:
    """Pieces that follow each other, joined while they fit; a short last chunk takes over from the one before."""
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
        _level(text, *groups[-2:])
    return [(group[0][0], group[-1][1]) for group in groups]


def _level(text: str, first: list[_Range], second: list[_Range]) -> None:
    """Move pieces from the end of one chunk to the start of the next while that makes the two more even."""
    while len(first) > 1:
        moved = first[-1][0]
        if _size(text, moved, second[-1][1]) > _size(text, first[0][0], first[-2][1]):
            return
        second.insert(0, first.pop())


def _with_something_to_speak(text: str, chunks: list[_Range], limit: int) -> list[_Range]:
    """The chunks with those of marks alone joined to the chunk before or after, if there is room."""
    kept: list[_Range] = []
    for start, end in chunks:
        if kept and not (speakable(text[start:end]) and speakable(text[slice(*kept[-1])])):
            joined = kept[-1][0], end
            if _size(text, *joined) <= limit:
                kept[-1] = joined
                continue
        kept.append((start, end))
    return [chunk for chunk in kept if speakable(text[slice(*chunk)])]
