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
    "foot": "feet", "inch": "inches", "penny": "pence", "paisa": "paise", "yen": "yen", "won": "won", "hertz": "hertz",
    "kilohertz": "kilohertz", "megahertz": "megahertz", "gigahertz": "gigahertz",
}  # fmt: skip
CURRENCIES = {
    "$": ("dollar", "cent"), "US$": ("U S dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"),
    "¥": ("yen", ""), "₹": ("rupee", "paisa"), "₩": ("won", ""), "USD": ("U S dollar", "cent"), "EUR": ("euro", "cent"),
    "GBP": ("pound", "penny"), "CHF": ("Swiss franc", "centime"), "JPY": ("yen", ""), "¢": ("cent", ""),
}  # fmt: skip
UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "μm": "micrometer", "nm": "nanometer",
    "mi": "mile", "yd": "yard", "ft": "foot", "kg": "kilogram", "g": "gram", "mg": "milligram", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "t": "ton", "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter",
    "gal": "gallon", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "s": "second",
    "sec": "second", "secs": "second", "ms": "millisecond", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz",
    "GHz": "gigahertz", "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte",
    "W": "watt", "kW": "kilowatt", "MW": "megawatt", "kWh": "kilowatt hour", "V": "volt", "mA": "milliampere",
    "mAh": "milliampere hour", "J": "joule", "kJ": "kilojoule", "cal": "calorie", "kcal": "kilocalorie",
    "dB": "decibel", "Pa": "pascal", "kPa": "kilopascal", "ha": "hectare", "px": "pixel", "mph": "mile per hour",
    "kph": "kilometer per hour", "mpg": "mile per gallon", "rpm": "revolution per minute", "Mbps": "megabit per second",
    "Gbps": "gigabit per second", "sq ft": "square foot", "°C": "degree Celsius", "°F": "degree Fahrenheit",
    "°": "degree",
}  # fmt: skip


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
    if not 2 <= below <= 20:
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
    """Return the value of a Roman numeral below 40, enough for kings and chapters: "XIV" -> 14."""
    values = {"X": 10, "IX": 9, "V": 5, "IV": 4, "I": 1}
    return sum(values[part] for part in re.findall("IX|IV|X|V|I", written))


def plural(words: str) -> str:
    """Return the words with the last in the plural: "nineteen ninety" -> "nineteen nineties"."""
    *start, last = words.split(" ")
    regular = f"{last[:-1]}ies" if last.endswith("y") else f"{last}es" if last.endswith("x") else f"{last}s"
    return " ".join([*start, _IRREGULAR.get(last, regular)])


def counted(written: str, unit: str) -> str:
    """Return a quantity: "2", "degree Celsius" -> "two degrees Celsius"."""
    if written == "1":
        return f"one {unit}"
    noun, *rest = re.split("(?= per | Celsius| Fahrenheit)", unit, maxsplit=1)
    return f"{number(written)} {plural(noun)}{''.join(rest)}"


def coins(written: str, coin: str, small: str) -> str:
    """Return an amount: "3.50", "pound", "penny" -> "three pounds and fifty pence"; two decimals are coins."""
    whole, _, cents = written.partition(".")
    if len(cents) != 2 or not small:
        return counted(written, coin)
    parts = [counted(whole, coin)] if whole.strip("0") or cents == "00" else []
    parts += [counted(str(int(cents)), small)] if cents != "00" else []
    return " and ".join(parts)
