"""Money: "$1,250.50", "C$40", "50 EUR", "the $64,000 question", "$10 to 20 million"."""

import regex
from regex import Match

from fishcli.text.normalize.english.grammar import modifies_noun
from fishcli.text.normalize.english.rules import ALONE, NUM, THINGS, Rule, one_of
from fishcli.text.normalize.numerals import counted, number, plural

_SIGNS = {
    "$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", ""), "₹": ("rupee", "paisa"),
    "₩": ("won", ""), "₽": ("ruble", "kopeck"), "₺": ("lira", ""), "₪": ("shekel", ""), "₫": ("dong", ""),
    "₴": ("hryvnia", ""), "₦": ("naira", ""), "₱": ("peso", "centavo"), "฿": ("baht", ""), "₿": ("bitcoin", ""),
    "¢": ("cent", ""),
}  # fmt: skip
_CODES = {
    "USD": ("U S dollar", "cent"), "CAD": ("Canadian dollar", "cent"), "AUD": ("Australian dollar", "cent"),
    "NZD": ("New Zealand dollar", "cent"), "HKD": ("Hong Kong dollar", "cent"), "SGD": ("Singapore dollar", "cent"),
    "TWD": ("Taiwan dollar", "cent"), "EUR": ("euro", "cent"), "GBP": ("pound", "penny"),
    "CHF": ("Swiss franc", "centime"), "JPY": ("yen", ""), "CNY": ("yuan", ""), "RMB": ("yuan", ""), "KRW": ("won", ""),
    "INR": ("rupee", "paisa"), "BRL": ("Brazilian real", "centavo"), "MXN": ("Mexican peso", "centavo"),
    "RUB": ("ruble", "kopeck"), "SEK": ("Swedish krona", ""), "NOK": ("Norwegian krone", ""),
    "DKK": ("Danish krone", ""), "PLN": ("zloty", ""), "CZK": ("Czech koruna", ""), "ZAR": ("rand", "cent"),
    "AED": ("dirham", ""), "THB": ("baht", ""), "BTC": ("bitcoin", ""),
}  # fmt: skip
_PREFIXED = {
    "US$": "USD", "C$": "CAD", "CA$": "CAD", "A$": "AUD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "S$": "SGD",
    "NT$": "TWD", "R$": "BRL", "MX$": "MXN", "CN¥": "CNY", "JP¥": "JPY",
}  # fmt: skip
_CURRENCIES = _SIGNS | _CODES | {written: _CODES[code] for written, code in _PREFIXED.items()}
_SIGN = one_of(list(_SIGNS))
BEFORE = rf"(?:{_SIGN}|(?<!\w)(?:{one_of([*_CODES, *_PREFIXED])}))"
AFTER = rf"(?:{_SIGN}|{one_of(list(_CODES))})"
_MULTIPLES = {
    "k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion",
    "tn": "trillion", "cr": "crore",
}  # fmt: skip
_WORDS = "thousand|million|billion|trillion|lakh|crore"
_MULTIPLE = rf"(?:bn|mn|tn|cr|[kKmMbBT])\b|[\s-](?:{_WORDS})\b"


_RATE = regex.compile(r"-(?:per|an?)-[a-z]")


def _multiple(written: str | None) -> str:
    return f" {_MULTIPLES.get(written.lower(), written.strip(' -'))}" if written else ""


def _money(match: Match[str]) -> str:
    groups = match.groupdict()
    written, multiple = match["num"], groups.get("multiple")
    coin, small = _CURRENCIES[groups.get("code") or match["currency"]]
    one = modifies_noun(match) or (multiple or "").startswith("-") or _RATE.match(match.string, match.end())
    if multiple:
        return f"{number(written)}{_multiple(multiple)} {coin if one else plural(coin)}"
    return _coins(written, coin, small, bool(one))


def _coins(written: str, coin: str, small: str, one: bool = False) -> str:
    """Return an amount: "3.50", "pound", "penny" -> "three pounds and fifty pence"; two decimals are coins."""

    def amount(value: str, unit: str) -> str:
        return f"{number(value)} {unit}" if one else counted(value, unit)

    whole, _, cents = written.partition(".")
    if len(cents) != 2 or not small:
        return amount(written, coin)
    parts = [amount(whole, coin)] if whole.strip("0") or cents == "00" else []
    parts += [amount(str(int(cents)), small)] if cents != "00" else []
    return " and ".join(parts)


def _range(match: Match[str]) -> str:
    """Move the currency behind a range to its end: "$3-4" as "3 to $4"."""
    return f"{match['num']}{_multiple(match['multiple'])} to {match['currency']}"


RULES: list[Rule] = [
    (r"\bRs(?:\.\s?|\s)(?=\d)", "₹"),
    (rf"(?<currency>{BEFORE})[-−](?=\.?\d)", r"-\g<currency>"),
    (
        rf"(?<currency>{BEFORE})\s?(?<num>{NUM})(?<multiple>{_MULTIPLE})?(?:\s?[–-]\s?(?:(?P=currency)\s?)?|"
        rf"\sto\s(?={NUM}\s(?:{_WORDS})\b|{NUM}(?:bn|[kKmMbB])\b|{NUM}(?:[;!?)]|[.,](?!\d)|\Z)))(?={NUM}(?!-?\d*[/⁄]))",
        _range,
    ),
]
AMOUNTS: list[Rule] = [
    (
        rf"(?<currency>{BEFORE})\s?(?<num>{NUM})(?<multiple>{_MULTIPLE})?"
        rf"(?:(?<=\$\S{{1,20}})\s(?<code>(?:US|CA|AU|NZ|HK|SG|TW)D)\b)?",
        _money,
    ),
    (rf"{ALONE}(?<num>{NUM})(?<multiple>\s?(?:{_MULTIPLE}))?\s?(?<currency>{AFTER})(?!\w)", _money),
    (
        rf"(?<![\w.,])(?!3M|[458]K)(?<num>{NUM})(?<multiple>[mbt]n\b|[kKMB]\b(?:(?<=[1-9]\d*\.\d+.)|(?={THINGS})))",
        lambda m: f"{number(m['num'])}{_multiple(m['multiple'])}",
    ),
]
