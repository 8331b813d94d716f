"""Signs that look like others, each as the one that the rules know: "℃" as "°C", "10⁻⁶" as "10^-6"."""

from unicodedata import digit, normalize

import regex
from regex import Match

# Only signs that belong to numbers: letter-like and squared units, full-width signs, hyphens.
_SIGNS = regex.compile(r"[µ℃℉ℓKÅΩ㍱-㏟％＄￡￥￦＋]|(?<=\d)[／：．，](?=\d)")
_MAPPED = str.maketrans({"˚": "°", "‐": "-", "‑": "-", "－": "-", "∶": ":", "∕": "/", "≦": "≤", "≧": "≥"})
_DEGREE = regex.compile(r"(?<=\d)°(?=[NSEW]\b)|(?<=\d\s?)(?:º\s?(?=[CF]?\b)|°\s(?=[CF]\b))")
_SUPERSCRIPT = regex.compile(r"(?<=[\d)]|(?<!\p{L})\p{L})[⁺⁻]?[⁰¹²³⁴-⁹]{1,20}")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_OTHER_DIGIT = regex.compile(r"[\p{Nd}--0-9]", regex.V1)
_OTHER_NUMBER = regex.compile(r"[\p{No}\p{Nl}--²³]", regex.V1)


def folded(text: str) -> str:
    """Return the text with digits as 0-9, fractions with a slash, powers with "^", and one sign for each meaning."""
    text = _SIGNS.sub(lambda m: normalize("NFKC", m[0]).replace("∕", "/"), text.translate(_MAPPED))
    text = _SUPERSCRIPT.sub(_power, _DEGREE.sub(lambda m: "° " if m[0] == "°" else "°", text))
    text = _OTHER_DIGIT.sub(lambda m: str(digit(m[0])), text)
    return _OTHER_NUMBER.sub(_compatible, text)


def _power(match: Match[str]) -> str:
    written = match[0]
    return written if written in ("²", "³") else f"^{written.translate(_SUPERSCRIPTS).removeprefix('+')}"


def _compatible(match: Match[str]) -> str:
    after_digit = match.string[match.start() - 1 : match.start()].isdigit()
    return " " * after_digit + normalize("NFKC", match[0])
