"""Verses of the Bible: "Psalm 23:4", "1 Corinthians 13:4-7"."""

from regex import Match

from fishcli.text.normalize.english.rules import Rule
from fishcli.text.normalize.numerals import cardinal

_SEVERAL = "Samuel|Kings|Chronicles|Corinthians|Thessalonians|Timothy|Peter|John"
_BOOKS = (
    f"{_SEVERAL}|Genesis|Exodus|Leviticus|Numbers|Deuteronomy|Joshua|Judges|Ruth|Ezra|Nehemiah|Esther|Job|Psalms?"
    "|Proverbs|Ecclesiastes|Isaiah|Jeremiah|Lamentations|Ezekiel|Daniel|Hosea|Joel|Amos|Jonah|Micah|Nahum|Habakkuk"
    "|Zephaniah|Haggai|Zechariah|Malachi|Matthew|Mark|Luke|Acts|Romans|Galatians|Ephesians|Philippians|Colossians"
    "|Titus|Philemon|Hebrews|James|Jude|Revelation|Surah|Quran|Qur['’]an"
)


_SHORT = {
    "Gen": "Genesis", "Exod": "Exodus", "Lev": "Leviticus", "Deut": "Deuteronomy", "Sam": "Samuel",
    "Chron": "Chronicles", "Ps": "Psalm", "Prov": "Proverbs", "Eccl": "Ecclesiastes", "Isa": "Isaiah",
    "Jer": "Jeremiah", "Ezek": "Ezekiel", "Dan": "Daniel", "Matt": "Matthew", "Rom": "Romans", "Cor": "Corinthians",
    "Gal": "Galatians", "Eph": "Ephesians", "Phil": "Philippians", "Col": "Colossians", "Thess": "Thessalonians",
    "Tim": "Timothy", "Heb": "Hebrews", "Jas": "James", "Pet": "Peter", "Rev": "Revelation",
}  # fmt: skip


def _verse(match: Match[str]) -> str:
    chapter, first = cardinal(int(match["chapter"])), cardinal(int(match["first"]))
    verses = f"verses {first} to {cardinal(int(match['last']))}" if match["last"] else f"verse {first}"
    return f"{match['book']} {chapter}, {verses}"


RULES: list[Rule] = [
    (rf"\b({'|'.join(_SHORT)})\.(?=\s\d{{1,3}}:\d)", lambda m: _SHORT[m[1]]),
    (rf"(?<![\w.:])[123](?=\s(?:{_SEVERAL})\s\d{{1,3}}\b)", lambda m: ("First", "Second", "Third")[int(m[0]) - 1]),
    (
        rf"\b(?<book>{_BOOKS})\s(?<chapter>\d{{1,3}}):(?<first>\d{{1,3}})(?:[–-](?<last>\d{{1,3}}))?"
        r"(?![\d:]|\s?[AaPp]\.?[Mm]\b)",
        _verse,
    ),
]
