"""Numbers, amounts and quantities as English words, in American form: no "and", no hyphens."""

import re

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ("", " thousand", " million", " billion", " trillion", " quadrillion")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_LONGEST = 9  # digits of a quantity without commas; a longer number is that of a telephone, a card or a device
_IRREGULAR = {
    "foot": "feet", "inch": "inches", "penny": "pence", "paisa": "paise", "real": "reais", "zloty": "zlotys",
    "krona": "kronor", "krone": "kroner",
}  # fmt: skip
_UNCHANGED = frozenset(
    ("yen", "won", "yuan", "dong", "baht", "rand", "naira", "hertz", "kilohertz", "megahertz", "gigahertz", "lux",
     "horsepower"),
)  # fmt: skip
_ROMANS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def cardinal(value: int) -> str:
    """Return the words of a number from 0 to 10**18 - 1: 1250 -> "one thousand two hundred fifty"."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        return _TENS[value // 10] + (f" {_ONES[value % 10]}" if value % 10 else "")
    if value < 1000:
        return f"{_ONES[value // 100]} hundred" + (f" {cardinal(value % 100)}" if value % 100 else "")
    groups = [value // 1000**power % 1000 for power in range(len(_SCALES))]
    said = [cardinal(group) + scale for group, scale in zip(groups, _SCALES, strict=True) if group]
    return " ".join(reversed(said))


def ordinal(value: int) -> str:
    """Return an ordinal: 21 -> "twenty first"."""
    *start, last = cardinal(value).split()
    stem = f"{last[:-1]}ie" if last.endswith("y") else last
    return " ".join([*start, _ORDINALS.get(last, f"{stem}th")])


def fraction(above: int, below: int, whole: int = 0) -> str:
    """Return a fraction: 3, 4 -> "three quarters"; 1, 2, 5 -> "five and a half"; 3, 50 -> "three over fifty"."""
    before = f"{cardinal(whole)} and " if whole else ""
    if not (2 <= below <= 20 or below == 100):
        return f"{before}{cardinal(above)} over {cardinal(below)}"
    part = {2: "half", 4: "quarter"}.get(below, ordinal(below))
    several = "halves" if part == "half" else plural(part)
    return f"{before}{'a' if whole and above == 1 else cardinal(above)} {part if above == 1 else several}"


def in_pairs(value: int) -> str:
    """Return 3 or 4 digits read in pairs: 1905 -> "nineteen oh five", 747 -> "seven forty seven"."""
    high, low = divmod(value, 100)
    if high % 10 == 0 and low < 10:
        return cardinal(value)
    return f"{cardinal(high)} {'hundred' if not low else f'oh {cardinal(low)}' if low < 10 else cardinal(low)}"


def spelled(digits: str) -> str:
    """Return the digits one by one: "007" -> "zero zero seven"; other characters are ignored."""
    return " ".join(_ONES[int(digit)] for digit in digits if digit.isdigit())


def number(written: str) -> str:
    """Return the words of a written number: "1,250.50" -> "one thousand two hundred fifty point five zero"."""
    whole, _, fraction = written.partition(".")
    digits = whole.replace(",", "")
    serial = len(digits) > (_LONGEST if digits == whole else 18) or (len(digits) > 1 and digits[0] == "0")
    said = spelled(digits) if serial else cardinal(int(digits)) if digits else ""
    return f"{said} point {spelled(fraction)}".strip() if fraction else said


def year(value: int) -> str:
    """Return a year: 2024 -> "twenty twenty four", 2005 -> "two thousand five"."""
    return in_pairs(value) if value >= 1000 else cardinal(value)


def roman(written: str) -> int:
    """Return the value of a Roman numeral in capitals: "XIV" -> 14."""
    values = [_ROMANS[letter] for letter in written]
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))


def plural(words: str) -> str:
    """Return the words in the plural: "nineteen ninety" -> "nineteen nineties", "mile per hour" -> "miles per hour"."""
    noun, *rest = re.split("(?= per | of | Celsius| Fahrenheit)", words, maxsplit=1)
    *start, last = noun.split(" ")
    regular = f"{last[:-1]}ies" if last.endswith("y") else f"{last}es" if last.endswith("x") else f"{last}s"
    return " ".join([*start, last if last in _UNCHANGED else _IRREGULAR.get(last, regular)]) + "".join(rest)


def counted(written: str, unit: str) -> str:
    """Return a quantity: "2", "degree Celsius" -> "two degrees Celsius"."""
    return f"one {unit}" if written == "1" else f"{number(written)} {plural(unit)}"
