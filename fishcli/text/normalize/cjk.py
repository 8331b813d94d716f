"""Chinese and Japanese numbers, dates, money and units in characters, by the grammars of `wetext`.

`wetext` gets one clause at a time, and only clauses with digits: text that it cannot parse then spoils one clause.
"""

from collections.abc import Callable

import regex
from regex import Match

# One clause, or a part of it: the memory of wetext is proportional to the length of its input.
_CLAUSE = regex.compile(r"[^\n。！？；，、“”「」『』《》（）]{1,300}")
_DIGIT = regex.compile(r"[0-9]")
_SERIAL = regex.compile(r"[0-9]{20,}")  # no quantity; the Japanese grammar takes seconds for a few hundred digits
_FULL_WIDTH = str.maketrans("０１２３４５６７８９％：／．－＋", "0123456789%:/.-+")
_FULL_WIDTH_IN_NUMBER = regex.compile(r"[０-９]+(?:[：／．－＋％]*[０-９]*)*|(?<=\d)[：／．％－]")
_DIGITS = str.maketrans("0123456789", "零一二三四五六七八九")
_DIALLED = str.maketrans("0123456789", "零幺二三四五六七八九", " -")
_ADDRESS = r"(?:https?://|www\.)[!-~]+|[!-~]+@[!-~]+"
_TO = "[-–—~～〜]"
_Words = str | Callable[[Match[str]], str]
_Rules = tuple[tuple[str, _Words], ...]


def _digits(match: Match[str]) -> str:
    """Return the match with its digits one by one."""
    return match[0].translate(_DIGITS)


def _dialled(match: Match[str]) -> str:
    """Return a telephone number or the like, digit by digit."""
    return match[0].replace("+", "加").translate(_DIALLED)


def _span(match: Match[str]) -> str:
    """Return "2到3" for "2-3": no subtraction has the smaller number first and a word after it."""
    return f"{match[1]}到{match[2]}" if int(match[1]) < int(match[2]) else match[0]


# What `wetext` would read as a quantity or a subtraction, mended before it sees it. A minus stands before a number
# that stands free; after a letter a hyphen is silent.
_BEFORE: dict[str, _Rules] = {
    "zh": (
        (r"(?<=\d),(?=\d{3}(?!\d))", ""),
        (r"[¥￥]\s?(\d+(?:\.\d*[1-9])?)(?:\.0+|0+)?(万|亿)?", r"\1\2元"),
        (r"(?<![\d:])(\d{1,2}):(\d\d):(\d\d)(?![\d:])", r"\1点\2分\3秒"),
        (_ADDRESS, _digits),
        # planes, then letters before a hyphen
        (r"(?<=波音|空客A?|空中客车A?)-?(\d{3})(?:-(\d{2,4}))?(?!\d)", lambda m: _digits(m).replace("-", "")),
        (r"(?<=[A-Za-z歼轰运])-(?=\d)", ""),
        # telephone, identity and other numbers that nobody counts
        (r"(?<![\d.-])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\d.])", _dialled),
        (r"(?<!\d)(?:\d{17}[\dXx]|\d{15})(?!\d)", _dialled),
        (
            r"(?<=(?:电话|手机|号码|热线|传真|客服|拨打?|QQ|[微账卡学工编房证]号|验证码|密码|尾号|邮编|邮政编码)(?:号码?)?"
            r"(?:是|为|：|:|\s){0,2}[A-Z]{0,2})\d(?:[ -]?\d){2,21}(?![\d.]|[ -]\d|\s?[元块万千百个部台名人年月日岁%])",
            _dialled,
        ),
        (r"(?<![\d.])(?:(\d{1,2})-)?\d{3,4}(?=室|号?房|病房|教室)", lambda m: _digits(m).replace("-", "杠")),
        (r"(?<=(?<![\d.])\d米)\d{2}(?![\d公厘米分.])", _digits),
        # two: 二 in an order, 两 in a count
        (r"(?<=第)2(?![\d.])|(?<![\d.])2(?=日|单元)", "二"),
        (r"(?<![\d.第A-Za-z:/-])2(?=次(?!元|方)|[遍顿份种台间款幅项束朵桌声圈盒箱包副句倍批部]|公斤)", "两"),
        # spans, scores, fractions
        (
            rf"(?<![\d-])((?:19|20)\d\d)年?{_TO}((?:19|20)\d\d)(?![\d-]|\s?[元块个人])",
            lambda m: f"{m[1]}到{m[2]}".translate(_DIGITS),
        ),
        (rf"(\d+(?:\.\d+)?)%?{_TO}(?=(\d+(?:\.\d+)?)%)", r"\1%到"),
        (rf"(?<=第\d{{1,4}}){_TO}(?=\d)", "到"),
        (r"(?<=比分[是为：:]?\s?\d{1,3}|以\s?\d{1,3})[-–—:](?=\d{1,3}(?!\d))", "比"),
        (
            r"(?<=(?<!\d)\d{1,3})-(?=\d{1,3}(?:的比分|获胜|取胜|[战大险完]胜|击败|领先|落后|不敌|战平|逼平|惜败|告负|横扫|赢|输))",
            "比",
        ),
        (r"(?<![\d.-])(\d{1,4})-(\d{1,4})(?=[\p{Han}--等])", _span),
        (r"(?<![\d/第.])\d{1,3}/\d{1,3}(?![\d/])", lambda m: _said(m[0], "zh")),
    ),
    "ja": (
        (r"[−－](?=\d)", "-"),
        (rf"(-?\d+(?:\.\d+)?){_TO}(-?\d+(?:\.\d+)?)\s?(?:°C|℃)", r"摂氏\1から\2度"),
        (r"((?<!\d)-?\d+(?:\.\d+)?)\s?(?:°C|℃)", r"摂氏\1度"),
        (_ADDRESS, _digits),
        (
            r"(?<=〒\s?|郵便番号(?:は|：|:|\s){0,2})(\d{3})-?(\d{4})(?!\d)",
            lambda m: f"{m[1]}の{m[2]}".translate(_DIGITS).replace("零", "〇"),
        ),
        (r"(?<=ボーイング|エアバスA?)(\d{3})(?:-\d{2,4})?", lambda m: _digits(m).replace("-", "の")),
        (r"(?<=[A-Za-z])-(?=\d)", ""),
        (r"\d(?=[SLDK]{2,4}(?![A-Za-z]))", _digits),
        (r"(?<=(?<![\d-])\d{1,3})-(?=\d{1,3}(?:で|の(?:勝|敗|引|スコア)))", "対"),
        (
            r"(?:(?<=[区市町村郡目字])|(?=\d+-\d+-))(?<![\d-])[1-9]\d{0,2}-[1-9]\d{0,3}(?:-[1-9]\d{0,3})?(?![\d-])",
            lambda m: m[0].replace("-", "の"),  # the number of a house
        ),
        (rf"(?<=第\d{{1,4}}){_TO}(?=\d)|(?<=\d)[〜～~](?=\d)|(?<=(?<![\d-])\d{{1,3}})-(?=\d{{1,3}}代)", "から"),
    ),
}
_AFTER: dict[str, _Rules] = {"zh": (), "ja": ((r"〇点", "零点"),)}


def in_characters(text: str, language: str) -> str:
    """Return Chinese ("zh") or Japanese ("ja") text with its numbers and units as words; no digit 0-9 is left."""
    text = _FULL_WIDTH_IN_NUMBER.sub(lambda m: m[0].translate(_FULL_WIDTH), text)
    text = _SERIAL.sub(lambda m: m[0].translate(_DIGITS), text)
    text = _replaced(text, _BEFORE[language])
    return _CLAUSE.sub(lambda clause: _normalize_clause(clause[0], language), text)


def _replaced(text: str, rules: _Rules) -> str:
    for pattern, words in rules:
        text = regex.sub(pattern, words, text, flags=regex.V1)
    return text


def _normalize_clause(clause: str, language: str) -> str:
    if not _DIGIT.search(clause):
        return clause
    inner = clause.strip()
    return clause.replace(inner, _replaced(_said(inner, language), _AFTER[language]).translate(_DIGITS))


def _said(text: str, language: str) -> str:
    from wetext import Normalizer

    try:
        return str(Normalizer(lang=language, operator="tn").normalize(text))
    except AssertionError:  # wetext raises it for what it cannot parse; the digits are then read one by one
        return text
