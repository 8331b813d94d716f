"""The comparison of a transcript with the text that was spoken: what a listener would call the same words is the same.

Both sides are normalised: numbers written out, case and punctuation dropped, British spelling, contractions and
homophones reduced to one form, and a compound may be one word or two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from fishcli.text.language_codes import primary_code
from fishcli.text.normalize import normalize

WITHOUT_SPACES = ("zh", "ja", "th", "lo", "km", "my", "bo")

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_CONTRACTIONS = [
    (re.compile(pattern), whole)
    for pattern, whole in [
        (r"\bcan't\b|\bcannot\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"'re\b", " are"),
        (r"'ll\b", " will"),
        (r"'ve\b", " have"),
        (r"\bi'm\b", "i am"),
        (r"'", ""),
        (r"\b(hundred|thousand|million|billion) and\b", r"\1"),
        (r"\bokay\b", "ok"),
    ]
]
_SPELLINGS = [  # British and American
    (re.compile(pattern), american)
    for pattern, american in [
        (r"(\w{3,})our(s|ed|ing|able|ful|ites?)?", r"\1or\2"),
        (r"(\w{3,})is(e|es|ed|ing|ation)", r"\1iz\2"),
        (r"(\w{3,})ys(e|es|ed|ing)", r"\1yz\2"),
        (r"(\w+[aeiou])ll(ed|ing|er)", r"\1l\2"),
        (r"(cent|theat|met|fib|lit)re(s?)", r"\1er\2"),
        (r"(\w{3,})ogue(s?)", r"\1og\2"),
        (r"(def|off|lic)ence(s?)", r"\1ense\2"),
        (r"grey(er|est|s)?", r"gray\1"),
        (r"programme(s?)", r"program\1"),
        (r"towards", "toward"),
    ]
]
_HOMOPHONES = """
    air heir | aisle isle | allowed aloud | ate eight | bare bear | be bee | beach beech | blew blue | brake break
    buy by bye | cell sell | cent scent sent | dear deer | dew due | die dye | fair fare | feat feet | find fined
    flour flower | for four fore | great grate | hair hare | heal heel | hear here | heard herd | him hymn | hole whole
    hour our | in inn | its | knew new | knight night | knot not | know no | knows nose | lead led | made maid
    mail male | main mane | meat meet | morning mourning | one won | pail pale | pain pane | pair pear | passed past
    peace piece | plain plane | poor pour | principal principle | rain reign | raise rays | read red | right write
    road rode | role roll | sail sale | scene seen | sea see | seam seem | sew so | son sun | stair stare
    stake steak | steal steel | tail tale | there their theyre | threw through | to too two | waist waste | wait weight
    wear where | weather whether | week weak | which witch | wood would | wrap rap | wring ring | your youre
"""
_HEARD_AS = {
    word: group[0] for line in _HOMOPHONES.splitlines() for group in map(str.split, line.split("|")) for word in group
}


def error_rate(spoken: str, heard: str, language: str) -> float:
    """Return the errors of a transcript over the words of the text, or over its characters where it has no spaces.

    It is above 1 where far more was heard; 0 for a text without words.
    """
    expected = units(spoken, language)
    return edit_distance(expected, units(heard, language)) / len(expected) if expected else 0.0


def units(text: str, language: str) -> list[str]:
    """Return the words of a text as they are compared, or its characters in a language without spaces."""
    primary = primary_code(language)
    plain = unicodedata.normalize("NFKC", normalize(text, primary)).casefold().replace("’", "'")
    if primary in WITHOUT_SPACES:
        return [each for each in plain if unicodedata.category(each)[0] in "LMN"]
    if primary == "en":
        for pattern, whole in _CONTRACTIONS:
            plain = pattern.sub(whole, plain)
        return [_one_form(word) for word in _WORD.findall(plain)]
    return _WORD.findall(plain)


def _one_form(word: str) -> str:
    for pattern, american in _SPELLINGS:
        if found := pattern.fullmatch(word):
            word = found.expand(american)
    return _HEARD_AS.get(word, word)


def edit_distance(expected: Sequence[str], got: Sequence[str]) -> int:
    """Return the fewest insertions, deletions and substitutions; two neighbours may also stand as one word for free."""
    rows = [list(range(len(got) + 1))]
    for i, word in enumerate(expected, 1):
        above, row = rows[-1], [i]
        for j, other in enumerate(got, 1):
            ways = [above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)]
            if i > 1 and expected[i - 2] + word == other:
                ways.append(rows[-2][j - 1])
            if j > 1 and got[j - 2] + other == word:
                ways.append(above[j - 2])
            row.append(min(ways))
        rows.append(row)
    return rows[-1][-1]
