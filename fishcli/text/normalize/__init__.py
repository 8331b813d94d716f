"""Numbers, dates, times, money, units and abbreviations as a person would read them, by language.

English has its own rules (`english`): the grammar of `wetext` reads "1,250.50" as "thousand two hundred and fifty point
five" and "1990s" as seconds. For Chinese and Japanese that grammar is good; it is an extra, `fishcli[normalize]`.
"""

from importlib.util import find_spec

import regex

from fishcli.text.language import guess_language
from fishcli.text.normalize.english import in_words

_NEEDS_EXTRA = ("zh", "ja")


def can_normalize(language: str) -> bool:
    """Whether `normalize` does anything for this language here; Chinese and Japanese need the extra."""
    return _primary(language) in ("en", *_NEEDS_EXTRA) and not needs_extra(language)


def needs_extra(language: str) -> bool:
    """Whether this is a language, such as "zh-CN", that the extra would normalize, and the extra is not installed."""
    return _primary(language) in _NEEDS_EXTRA and find_spec("wetext") is None


def normalize(text: str, language: str | None = None) -> str:
    """Text -> the words to be spoken; unchanged where `can_normalize` says no. Plain words stay as they are."""
    primary = _primary(language or guess_language(text))
    if primary == "en":
        return in_words(text)
    return _in_characters(text, primary) if can_normalize(primary) else text


def _primary(language: str) -> str:
    """ "zh-TW" -> "zh"."""
    return regex.split("[-_]", language.lower(), maxsplit=1)[0]


# Chinese and Japanese. The grammar gets one clause at a time, and only clauses with digits: what it cannot parse then
# spoils no more than a clause.

# A clause, at most; the grammar takes memory in proportion to what it is given at once.
_CLAUSE = regex.compile(r"[^\n。！？；，、“”「」『』《》（）]{1,300}")
_DIGIT = regex.compile(r"[0-9]")
_SERIAL = regex.compile(r"[0-9]{20,}")  # No quantity; the Japanese grammar needs seconds for a few hundred digits.
_FULL_WIDTH = str.maketrans("０１２３４５６７８９％：／．－＋", "0123456789%:/.-+")
_FULL_WIDTH_IN_NUMBER = regex.compile(r"[０-９]+(?:[：／．－＋％]*[０-９]*)*|(?<=\d)[：／．％]")
_DIGITS = str.maketrans("0123456789", "零一二三四五六七八九")
_Rules = tuple[tuple[str, str], ...]
_BEFORE: dict[str, _Rules] = {
    "zh": (
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"[¥￥]\s?(\d+(?:\.\d*[1-9])?)(?:\.0+|0+)?(万|亿)?", r"\1\2元"),
        (r"(?<![\d:])(\d{1,2}):(\d\d):(\d\d)(?![\d:])", r"\1点\2分\3秒"),
    ),
    "ja": ((r"(\d+(?:\.\d+)?)\s?(?:°C|℃)", r"摂氏\1度"),),
}
_AFTER: dict[str, _Rules] = {"zh": (), "ja": ((r"〇点", "零点"),)}


def _in_characters(text: str, language: str) -> str:
    text = _FULL_WIDTH_IN_NUMBER.sub(lambda m: m[0].translate(_FULL_WIDTH), text)
    text = _SERIAL.sub(lambda m: m[0].translate(_DIGITS), text)
    text = _replaced(text, _BEFORE[language])
    return _CLAUSE.sub(lambda clause: _clause_in_characters(clause[0], language), text)


def _replaced(text: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        text = regex.sub(pattern, replacement, text)
    return text


def _clause_in_characters(clause: str, language: str) -> str:
    if not _DIGIT.search(clause):
        return clause
    from wetext import Normalizer

    inner = clause.strip()
    try:
        said = Normalizer(lang=language, operator="tn").normalize(inner)
    except AssertionError:  # This is how it says that it cannot parse: the digits are read one by one.
        said = inner
    return clause.replace(inner, _replaced(said, _AFTER[language]).translate(_DIGITS))
