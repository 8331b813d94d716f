"""Roman numerals of kings, wars, chapters and years; a letter alone, as in "Vitamin C" or "I", mostly is no number."""

import regex
from regex import Match

from fishcli.text.normalize.english.rules import Rule
from fishcli.text.normalize.numerals import cardinal, ordinal, roman, year

_PARTS = (
    "Chapter|Part|Book|Volume|Act|Scene|Section|Article|War|Type|Phase|Level|Appendix|Class|Title|Stage|Bowl|Episode"
    "|Canto|Sonnet|Psalm|Lesson|Unit|Figure|Table|Schedule|Annex|Category|Tier|Division|Season|Series|Opus|Verse|Stanza"
    "|Mark|Mk|Rocky|Rambo|Apollo|Saturn|Fantasy|Vatican|Pentium|Group|Grade|Round|Step|Corps|Legion"
)
_KINGS = (
    "Henry|Louis|George|Elizabeth|Charles|Edward|James|William|Richard|John|Paul|Benedict|Pius|Leo|Philip|Napoleon"
    "|Frederick|Catherine|Nicholas|Alexander|Peter|Ivan|Gregory|Clement|Innocent|Urban|Mary|Ramses|Ptolemy|Darius"
    "|Xerxes|Otto|Harald|Olaf|Haakon|Christian|Gustav|Wilhelm|Robert|Edmund|Harold|Sixtus|Julius|Boniface|Eugene"
    "|Stephen|Ferdinand|Francis|Leopold|Albert|Cyrus|Mehmed|Murad|Selim|Theodosius|Constantine|Justinian|Basil"
    "|Alfonso|Pedro|Joseph|Rudolf|Conrad|Felipe|Umberto|Emmanuel|Carlos|Franz|Margaret|Anne|Matthias|Victoria"
    "|Kamehameha|Rama"
)
_RULERS = "King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Prince|Saint|Sultan|Pharaoh"
_ROMAN = r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?!\w|['’]\w)"
_SMALL = r"(?=[ivxl])(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})(?!\w|['’]\w)"
_NO_PRONOUN = r"(?!I\s(?:am|was|have|had|will|would|do|did|can|could|think|know|love|like|want|saw|read|need)\b)"
_NO_LETTER = r"(?![CDLM](?!\w)|MIX\b|[CDM][CDMIV]\b|(?<=Series |Class |Unit |Group )X(?!\w)|(?<=Mark )I(?!\w))"


def _parts(match: Match[str]) -> str:
    numbers = regex.sub(
        r"\w+", lambda m: cardinal(roman(m[0].upper())) if m[0] not in ("and", "or", "to") else m[0], match[0]
    )
    return regex.sub(r"\s?[–-]\s?", " to ", numbers)


def _king(match: Match[str]) -> str:
    return f"the {ordinal(roman(match[0]))}"


def _year(match: Match[str]) -> str:
    value = roman(match[0])
    return year(value) if value <= 2100 else match[0]


RULES: list[Rule] = [
    (r"\bWW\s?(II?|[12])\b", lambda m: f"World War {'two' if m[1] in ('II', '2') else 'one'}"),
    (rf"(?<=\b(?i:{_PARTS})s\s){_ROMAN}(?:(?:,\s|,?\s(?:and|or|to)\s|\s?[–-]\s?){_ROMAN}){{1,6}}", _parts),
    (rf"(?<=\b(?:{_PARTS}|{_PARTS.upper()})\s){_NO_LETTER}{_NO_PRONOUN}{_ROMAN}", _parts),
    (rf"(?<=\b(?:{_PARTS.lower()})\s){_NO_LETTER}(?![IX](?!\w)){_ROMAN}", _parts),
    (rf"(?<=\b(?i:{_PARTS})\s)(?![ivxl](?!\w)){_SMALL}", _parts),
    (r"(?<=\b(?i:scene|chapter|act|part|book|canto)\s)[ivx](?=[.,;:)])", _parts),
    (rf"(?<=\b(?:{_RULERS})\s(?:{_KINGS})\s)I(?!\w|['’](?!s\b))", "the first"),
    (
        rf"(?<=(?:\A|[.!?]\s)(?:{_KINGS})\s)(?!I\s(?:am|have|will|can|do|think|know|love|like|want|need|hope)\b)"
        r"I(?=\s[a-z]{2,20}\b|['’]s\b)",
        "the first",
    ),
    (rf"(?<=\b(?:{_KINGS})\s)(?!I(?!\w)|[VX]\.\s)(?=[IVX])X{{0,3}}(?:IX|IV|V?I{{0,3}})(?!\w|['’]\w(?<!['’]s))", _king),
    (r"\bM{1,2}(?=[MDCLXVI]{3})(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b", _year),
]
