"""Measures: "12 kg", "9.8 m/s²", "a 55-inch TV", "5' 11\"", "8 lbs. 3 oz."."""

import regex
from regex import Match

from fishcli.text.normalize.english.grammar import modifies_noun
from fishcli.text.normalize.english.rules import NUM, Rule, one_of, spaced
from fishcli.text.normalize.numerals import counted, number

UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "μm": "micrometer", "nm": "nanometer",
    "mi": "mile", "yd": "yard", "yds": "yard", "ft": "foot", "″": "inch", "′": "foot", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "μg": "microgram", "mcg": "microgram", "lb": "pound", "lbs": "pound", "oz": "ounce", "t": "ton",
    "l": "liter", "L": "liter", "ml": "milliliter", "mL": "milliliter", "μL": "microliter", "μl": "microliter",
    "cl": "centiliter", "cL": "centiliter", "dl": "deciliter", "dL": "deciliter", "gal": "gallon", "qt": "quart",
    "fl oz": "fluid ounce", "tbsp": "tablespoon", "Tbsp": "tablespoon", "tsp": "teaspoon",
    "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "s": "second", "sec": "second",
    "secs": "second", "ms": "millisecond", "μs": "microsecond", "ns": "nanosecond", "yr": "year", "yrs": "year",
    "wk": "week", "wks": "week", "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz",
    "kB": "kilobyte", "KB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte", "PB": "petabyte",
    "KiB": "kibibyte", "MiB": "mebibyte", "GiB": "gibibyte", "kb": "kilobyte", "Kb": "kilobit", "Mb": "megabit",
    "Gb": "gigabit", "Tb": "terabit", "kbit": "kilobit", "Mbit": "megabit", "Gbit": "gigabit", "mb": "megabyte",
    "gb": "gigabyte", "kbps": "kilobit per second", "Kbps": "kilobit per second", "Mbps": "megabit per second",
    "Gbps": "gigabit per second", "mbps": "megabit per second", "W": "watt", "mW": "milliwatt", "kW": "kilowatt",
    "MW": "megawatt", "GW": "gigawatt", "Wh": "watt hour", "kWh": "kilowatt hour", "MWh": "megawatt hour",
    "GWh": "gigawatt hour", "V": "volt", "mV": "millivolt", "kV": "kilovolt", "mA": "milliampere", "Ah": "ampere hour",
    "mAh": "milliampere hour", "Ω": "ohm", "kΩ": "kiloohm", "MΩ": "megaohm", "J": "joule", "kJ": "kilojoule",
    "MJ": "megajoule", "eV": "electronvolt", "keV": "kiloelectronvolt", "MeV": "megaelectronvolt",
    "GeV": "gigaelectronvolt", "cal": "calorie", "kcal": "kilocalorie", "hp": "horsepower", "kN": "kilonewton",
    "Nm": "newton meter", "dB": "decibel", "Pa": "pascal", "hPa": "hectopascal", "kPa": "kilopascal",
    "MPa": "megapascal", "mbar": "millibar", "psi": "pound per square inch", "mmHg": "millimeter of mercury",
    "mm Hg": "millimeter of mercury", "ha": "hectare", "lm": "lumen", "lx": "lux", "mol": "mole", "mmol": "millimole",
    "pts": "point", "px": "pixel", "dpi": "dot per inch", "fps": "frame per second", "bpm": "beat per minute",
    "ppm": "part per million", "ppb": "part per billion", "mph": "mile per hour", "kph": "kilometer per hour",
    "kmh": "kilometer per hour", "mpg": "mile per gallon", "rpm": "revolution per minute", "sq ft": "square foot",
    "sq mi": "square mile", "sq m": "square meter", "sq km": "square kilometer", "sq yd": "square yard",
    "sq in": "square inch", "cu ft": "cubic foot", "cu m": "cubic meter", "cu in": "cubic inch",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
}  # fmt: skip
UNIT = one_of(list(UNITS)).replace(r"\ ", r"\.?\s")
_DOTTED = "oz|ft|lbs?|in|hrs?|mins?|secs?|yds?"  # written with a full stop too
_EACH = "day|week|month|year|dose|person"
_SHAPE = "wide|long|tall|high|thick|deep"


def unit_name(written: str) -> str:
    """Return the name of a unit: "sq. ft" -> "square foot"."""
    return UNITS[regex.sub(r"\.?\s", " ", written)]


def _power(unit: str, power: str | None) -> str:
    """Return a unit with its power: "meter", "²" -> "square meter"; "second", "²" -> "second squared"."""
    if not power:
        return unit
    squared = power[-1] in "2²"
    if unit.endswith("meter") or unit in ("foot", "inch", "mile", "yard"):
        return f"{'square' if squared else 'cubic'} {unit}"
    return f"{unit} {'squared' if squared else 'cubed'}"


def _measure(match: Match[str]) -> str:
    unit = _power(unit_name(match["unit"]), match["power"])
    if match["per"]:
        unit += f" per {_power(unit_name(match['per']), match['perpower'])}"
    if match["each"]:
        unit += f" per {match['each']}"
    if match["hyphen"]:
        return f"{number(match['num'])}-{unit}"
    return f"{number(match['num'])} {unit}" if modifies_noun(match) else counted(match["num"], unit)


_LAST_QUOTE = regex.compile(r"""(?r)(?P<open>“|(?<![\w.,;:!?)…])")|(?<!\d)["”]""")


def _inches(match: Match[str]) -> str:
    """Return the sign of inches, except where the mark closes a quotation: "I am 12"."""
    before = match.string[max(0, match.start() - 300) : match.start()]
    last = _LAST_QUOTE.search(before)
    return match[0] if last and last["open"] else "″"


def _angle(match: Match[str]) -> str:
    seconds = f" {counted(match['second'], 'second')}" if match["second"] else ""
    return f"{counted(match['degree'], 'degree')} {counted(match['minute'], 'minute')}{seconds}"


def _same_unit(match: Match[str]) -> str:
    first, second = match["first"], match["unit"]
    return f"{match['a']} to {match['b']}" if first == second or (first == "°" and second[0] == "°") else match[0]


_POWERS = r"(?:[23²³]|\^[23])"
WORDS: list[Rule] = [
    (r"(?<=\bdegrees?\s)[CF]\b", lambda m: "Celsius" if m[0] == "C" else "Fahrenheit"),
    (rf"(?<=\bper\s)(?:{UNIT})(?!\w)", lambda m: unit_name(m[0])),
]
SIGNS: list[Rule] = [
    (
        r"(?<![\w.,])(?<degree>\d{1,3})°\s?(?<minute>\d{1,2})['’′](?:\s?(?<second>\d{1,2}(?:\.\d+)?)(?:[\"”″]|''))?",
        _angle,
    ),
    (r"(?<![\d.])(\d{1,2})\s?['’′]\s?(\d{1,2}(?:\.\d|½)?)\s?(?:[\"”″]|''|’’)", r"\1 foot \2"),
    (r"(?<![\d.])(\d{1,2})\s?ft\.?\s(\d{1,2})\s?in\b\.?", r"\1 foot \2"),
    (rf"(?<=\d)['’](?=\s(?:{_SHAPE}|[x×]\s?\d)\b)", "′"),
    (r"(?<=\b(?i:an?|the)\s\d{1,3})['’](?=\s[a-z])", "′"),
    (r"(?:''|’’)(?<=\d\s?..)(?!\w)", "″"),
    (r"(?<=(?:\A|[\s(–x×])[\d./⁄]{1,9})[\"”](?!\w)", _inches),
    (rf"(?<=\d)\s?in\b\.?(?=\s(?:{_SHAPE}|x|×)\b)|(?<=\d)[\s-]?in\.(?=\s(?:of\b|[a-z]{{2,20}}\b))", "″"),
    (rf"(?<=\d\s?(?:L|l|kWh|kg|g|mg|gal|kcal))/(?=\d{{1,4}}\s?(?:{UNIT})\b)", " per "),
    (rf"[x×](?<=\d(?:\s?(?:{UNIT}))?\s?.)\s?(?=\d)", lambda m: spaced(m, "by")),
    (
        rf"(?<![\w.,])(?<a>{NUM})\s?(?<first>{UNIT})\s?[–-]\s?(?<b>{NUM})(?=\s?(?<unit>{UNIT})(?!\w))",
        _same_unit,
    ),
]
RULES: list[Rule] = [
    (
        rf"(?<![\w.,])(?<num>{NUM})(?:[ \u00a0\u202f]?|(?<hyphen>-))(?<unit>{UNIT})(?<power>{_POWERS})?"
        rf"(?:/(?<per>{UNIT})(?<perpower>{_POWERS})?(?:/(?<each>{_EACH})\b)?)?(?![\w²³'’]|/\w)"
        rf"(?:\.(?=\s[a-z])|(?<={_DOTTED})\.(?=[,;:)]|\s\d+\s?(?:{_DOTTED})\b))?",
        _measure,
    ),
]
