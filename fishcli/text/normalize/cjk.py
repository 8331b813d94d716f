"""Chinese and Japanese numbers, dates, money and units in characters, by the grammars of `wetext`.

`wetext` gets one clause at a time, and only clauses with digits: text that it cannot parse then spoils one clause.
"""

import regex

# One clause, or a part of it: the memory of wetext is proportional to the length of its input.
_CLAUSE = regex.compile(r"[^\n。！？；，、“”「」『』《》（）]{1,300}")
_DIGIT = regex.compile(r"[0-9]")
_SERIAL = regex.compile(r"[0-9]{20,}")  # no quantity; the Japanese grammar takes seconds for a few hundred digits
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


def in_characters(text: str, language: str) -> str:
    """Return Chinese ("zh") or Japanese ("ja") text with its numbers and units as words; no digit 0-9 is left."""
    text = _FULL_WIDTH_IN_NUMBER.sub(lambda m: m[0].translate(_FULL_WIDTH), text)
    text = _SERIAL.sub(lambda m: m[0].translate(_DIGITS), text)
    text = _replaced(text, _BEFORE[language])
    return _CLAUSE.sub(lambda clause: _normalize_clause(clause[0], language), text)


def _replaced(text: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        text = regex.sub(pattern, replacement, text)
    return text


def _normalize_clause(clause: str, language: str) -> str:
    if not _DIGIT.search(clause):
        return clause
    from wetext import Normalizer

    inner = clause.strip()
    try:
        said = Normalizer(lang=language, operator="tn").normalize(inner)
    except AssertionError:  # wetext raises it for what it cannot parse; the digits are then read one by one
        said = inner
    return clause.replace(inner, _replaced(said, _AFTER[language]).translate(_DIGITS))
