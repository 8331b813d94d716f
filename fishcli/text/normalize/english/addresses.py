"""Addresses of the web and of mail: "joe@example.com" as "joe at example dot com"."""

import regex
from regex import Match

from fishcli.text.normalize.english.rules import Rule
from fishcli.text.normalize.numerals import spelled

_SIGNS = {
    "@": "at", ".": "dot", "/": "slash", "-": "dash", "_": "underscore", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "~": "tilde", "+": "plus",
}  # fmt: skip
_DOMAINS = "com|org|net|edu|gov|io|dev|ai|app|info|co|uk|de|fr|eu|ca|au|jp|cn|in|us|me|tv"


def _address(match: Match[str]) -> str:
    address = regex.sub(r"^https?://|/$", "", match[0])
    parts = regex.findall(r"[^\W\d_]+|\d+|[^\w\s]|_", address)
    said = [spelled(part) if part.isdigit() else _SIGNS.get(part, part) for part in parts]
    return " ".join("w w w" if part == "www" else part for part in said)


RULES: list[Rule] = [
    (r"(?:https?://|www\.)[^\s<>\"”]*[\w/]|(?<![\w.+-])[\w.+-]+@\w[\w-]*(?:\.\w[\w-]*){1,9}", _address),
    (rf"(?<![\w.@-])(?:\w[\w-]{{0,62}}\.){{1,9}}(?:{_DOMAINS})\b(?:/[\w/-]*\w)?(?![.-]?\w)", _address),
]
