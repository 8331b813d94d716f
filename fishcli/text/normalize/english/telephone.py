"""Telephone numbers, and other numbers that are read digit by digit: PINs, post codes, cards, versions, aircraft."""

import regex
from regex import Match

from fishcli.text.normalize.english.rules import ALONE, THINGS, Rule, spaced
from fishcli.text.normalize.numerals import cardinal, in_pairs, number, spelled

_CALL = (
    r"\b(?i:call(?:ed|ing|s)?|dial(?:l?ed|l?ing|s)?|phon(?:e[ds]?|ing)|rang|ring|text(?:ed)?|tel|telephone|fax|mobile"
    r"|hotline|helpline|extension)(?:\s(?:us|me|him|her|them|the\spolice))?(?:\s[A-Z]{2,10}\sto)?"
    r"(?:\s(?:at|on|is|number))?:?\s"
)
_CODE_OF = (
    "area|country|dialling|dialing|zip|postal|access|entry|security|door|error|status|promo|confirmation|verification"
    "|pass|sort"
)
_NUMBER_OF = (
    "account|card|serial|order|tracking|confirmation|reference|invoice|case|ticket|policy|passport|licen[cs]e|badge"
)
_SECRET = (
    rf"\b(?i:pin|passcode|password|otp|zip|postcode|(?:{_CODE_OF})\scode|(?:{_NUMBER_OF})\s(?:number|no\.?))"
    r"(?:\s(?:is|was|of|number))?:?\s"
)
_STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR"
    "|PA|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY"
)
_IN_PAIRS = "Flight|Xbox|Route|Highway|Hwy|Interstate|Room|Suite|Autobahn|Peugeot|Porsche|Ferrari"
_NOT_LONGER = r"(?![\d%]|[.,:/-]\w)"
_AFTER_CALL = (
    r"(?=\s(?:now|at|on|for|immediately|today|tonight|if|or|and|to|when|right|first|before|after|in|as|because|but"
    r"|please|again|with|from|while|instead|straight|yourself)\b|\s?[^\s\w]|\s[^a-z\d]|\s*\Z)"
)


def _groups(written: str) -> str:
    return ", ".join(map(spelled, regex.findall(r"\d+", written)))


def _telephone(match: Match[str]) -> str:
    return ("plus " if match[0][0] == "+" else "") + _groups(match[0])


def _digits(match: Match[str]) -> str:
    """Read the numbers after a word such as "call" digit by digit; the word stays."""
    return regex.sub(r"\d+(?:[ .-]\d+)*", lambda m: _groups(m[0]), match[0])


def _vanity(match: Match[str]) -> str:
    numbers = ["one"] * bool(match["one"]) + [cardinal(int(match["area"]))]
    return f"{', '.join(numbers)}, {match['word'].replace('-', ' ')}"


def _dotted(match: Match[str]) -> str:
    groups = match["groups"].split(".")
    said = " dot ".join(map(spelled, groups)) if len(groups) == 4 else " point ".join(map(number, groups))
    return ("version " if match["version"] else "") + said


def _model(match: Match[str]) -> str:
    return f"{match[1]} " + " ".join(in_pairs(int(digits)) for digits in regex.findall(r"\d+", match[2]))


def _plan(match: Match[str]) -> str:
    """Read "401(k)" as "four oh one K"."""
    return f"{in_pairs(int(match[1]))} {match[2].upper()}" + (f" {cardinal(int(match[3]))}" if match[3] else "")


def _extension(match: Match[str]) -> str:
    number = spelled(match[1]) if len(match[1]) > 2 else cardinal(int(match[1]))
    return f"{spaced(match, 'extension')}{number}"


CODES: list[Rule] = [
    (
        r"(?:x|ext\.?\s?|extension\s)(?<=(?:[.-]\d{4},?\s?|\d{3} \d{4},?\s)\p{L}.{0,9})(\d{1,6})\b",
        _extension,
    ),
    (r"\b(401|403|457|501|529)\((\w)\)(?:\((\d)\))?", _plan),
    (rf"{ALONE}\d{{3}}\.\d{{3}}\.\d{{4}}(?![\d.]*\d)", _telephone),
    (rf"{ALONE}\d{{5}}-\d{{4}}(?![\w-])", _telephone),
    (rf"{ALONE}(?<version>[vV])?(?<groups>\d+(?:\.\d+){{2,9}})", _dotted),
    (rf"{ALONE}(?:v(?=\d)|V(?=\d+\.\d))", "version "),
    (rf"\b(Boeing|Airbus)\s([1-9]\d\d(?:-\d{{1,3}})?)\b{_NOT_LONGER}", _model),
    (rf"\b({_IN_PAIRS})\s([1-9]\d\d)\b{_NOT_LONGER}(?!\s(?:miles|years|people|and)\b)", _model),
    (rf"\b(?:{_STATES})\s\d{{5}}(?:-\d{{4}})?\b(?<=[a-z],?\s\w\w\s[\d-]{{5,10}})", _digits),
    (rf"\d(?<={_SECRET}\d)\d{{1,11}}\b{_NOT_LONGER}(?!{THINGS})", _digits),
    (rf"\d(?<={_CALL}\d)\d{{2,5}}(?: (?!000)\d{{3,6}}){{1,3}}(?![\d%]|[.,:/-]\w|{THINGS})", _digits),
    (
        rf"(?!(?:1[5-9]|20)\d\d\b)\d(?<={_CALL}\d)\d{{2,5}}\b{_NOT_LONGER}{_AFTER_CALL}"
        r"(?:\s(?:or|and)\s\d{3}\b(?![.,:/-]\d|\s\d))?",
        _digits,
    ),
]
TELEPHONE: list[Rule] = [
    (
        r"(?<![\w.,/-])(?:\+?(?<one>1)[ .-]|\((?=\d{3}\)))?(?<area>8(?:00|33|44|55|66|77|88)|900)\)?[ .-]"
        r"(?<word>[A-Z]{4,9}|[A-Z]{2,5}-[A-Z]{2,9})(?![\w-])",
        _vanity,
    ),
    (r"(?<![\w.,/-])(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)", _telephone),
    (r"(?<![\w.,/-])(?:\d{3}-\d{4}|\d{4}(?: \d{4}){2,3}|\d+(?:-\d+){2,9})(?![\d-])", _telephone),
    (r"(?<!\w)\+\d{1,3}(?:[ .-]?\(\d{1,4}\)|[ .-]\d{1,8}){2,6}(?!\d)|(?<!\w)\+\d{10,15}(?!\d)", _telephone),
    (r"(?<![\w.,/+(-])\((?=0)\d{2,5}\)[ -]?\d{3,8}(?:[ -]\d{3,4}){0,2}(?![\d-])", _telephone),
    (r"(?<![\w.,/+-])0\d{1,4}(?:[ -]\d{2,8}){1,4}(?![\d-]|[.,/:]\d)(?<=(?:\d[ -]?){9})", _telephone),
    (r"(?<![\w.,/+-])1[38]00 \d{3} \d{3}(?![\d-])", _telephone),
]
