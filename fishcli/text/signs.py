"""Signs that make no sound: pictographs, invisible characters and quotation marks.

The transcripts that a model learns from hardly have them. The built-in voice spoke "Hi 😀" for up to 6 s ("Hi.": 1 s),
and `"Thanks for coming."` for nothing or 8 s.
"""

import regex
from regex import Match

from fishcli.request import Span

# Emoji with their joiners, skin tones and flags; © ® ™; arrows, boxes and shapes. Numbers in circles are read, and the
# signs of keys belong to music.
_PICTOGRAPH = (
    r"[[\p{Extended_Pictographic}\p{Emoji_Modifier}\p{Regional_Indicator}℠\ufe0e\ufe0f\u20e3\u2190-\u21ff\u2300-\u23ff"
    r"\u2500-\u27bf\u27f0-\u297f\u2b00-\u2bff\U000e0020-\U000e007f]--[0-9#*\p{No}♭♮♯‼⁉]]"
)
_PICTOGRAPHS = regex.compile(
    rf"(?:(?<!\s)[^\S\n]++)?+(?:{_PICTOGRAPH}|(?<!\S)(?:[-=]{{1,2}}>|<-|[:;=]-?[()DPp]|\^_?\^)(?![^\s.,!?]))"
    rf"(?:\u200d?{_PICTOGRAPH})*+",
    regex.V1,
)
_INVISIBLE = regex.compile(r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]|(?<!\p{M})\u200d")
_MARKS = str.maketrans({"‼": "!", "⁉": "?", "♯": "#"})


def drop_pictographs(text: str) -> str:
    """Return the text without emoji, arrows and other pictographs, and without invisible characters.

    A pictograph between two words leaves a space, one before a mark does not: "Great job 🤣." ends in "job.".
    """
    return _INVISIBLE.sub("", _PICTOGRAPHS.sub(_gap, text.translate(_MARKS)))


def _gap(match: Match[str]) -> str:
    before, after = match.string[max(0, match.start() - 1) : match.start()], match.string[match.end() : match.end() + 1]
    return " " if before.strip() and (after.isalnum() or after in tuple("“\"'(")) else ""


_QUOTES = '"“”„‟«»‹›「」『』〝〞〟＂《》〈〉″‶`'
_BETWEEN_WORDS = regex.compile(rf"(?<=[\p{{Latin}}\p{{N}}])[{_QUOTES}](?=[\p{{Latin}}\p{{N}}])")
_DOUBLE = regex.compile(rf"[{_QUOTES}]|''|<3(?!\d)")
_LETTER = r"[\p{L}\p{M}\p{N}]"
_SINGLE = regex.compile(
    rf"(?<!{_LETTER})['‘](?=[^\s'‘’])((?:[^'‘’\n]|(?<={_LETTER})['’](?={_LETTER})){{1,400}}+)(?<=\S)['’](?!{_LETTER})"
)
_LONE = regex.compile(rf"‘|(?<!{_LETTER})['’]")  # "'tis" sounds as "tis"; "dogs'" keeps its apostrophe
_BRACKETED = regex.compile(
    r"(\A|(?<=[.!?…]\s))[(（\[]([^()（）\[\]]*+)[)）\]]([.。!?！？]?\Z|(?<=[.。!?！？…].)(?=\s))"
)
_DASHES_AT_START = regex.compile(r"\A[-–—―]+\s*+(?=\p{L})")  # of an utterance, an author, an option
_REPEATED = regex.compile(r",{2,}")
_SPACES = regex.compile(r"\s+")


def drop_quotes(text: str) -> str:
    """Return the text without quotation marks, dashes at its start and brackets around a whole sentence.

    Apostrophes stay, and are straight. What is left is what the model gets (`cleaning.clean` changes nothing in it).
    """
    text = _DOUBLE.sub("", _BETWEEN_WORDS.sub(" ", text))
    text = _LONE.sub("", _SINGLE.sub(r"\1", text)).replace("’", "'")
    text = _DASHES_AT_START.sub("", text.strip())
    return _REPEATED.sub(",", _BRACKETED.sub(r"\1\2\3", text))


def without_quotes(text: str, spans: list[Span]) -> tuple[str, list[Span]]:
    """Return a text and its chunks without quotation marks; the splitter has used them by then."""
    parts: list[str] = []
    quiet: list[Span] = []
    length = end = 0
    for span in spans:
        gap, words = _DOUBLE.sub("", text[end : span.start]), drop_quotes(text[span.start : span.end])
        start = length + len(gap)
        parts += [gap, words]
        length, end = start + len(words), span.end
        quiet.append(Span(_SPACES.sub(" ", words), start, length))
    return "".join([*parts, _DOUBLE.sub("", text[end:])]), quiet
