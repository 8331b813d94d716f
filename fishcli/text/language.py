"""Language detection, for chunking, normalisation and the warning that a voice does not speak the language."""

import regex

from fishcli.text.frequent_words import FORMS, LETTERS, PARTICLES, WORDS

_SAMPLE = 5000  # characters at the start of the text
_SCRIPTS = {
    "ko": "Hangul", "ar": "Arabic", "ru": "Cyrillic", "hi": "Devanagari", "th": "Thai",
    "el": "Greek", "he": "Hebrew", "bn": "Bengali", "ta": "Tamil", "te": "Telugu", "hy": "Armenian", "ka": "Georgian",
    "am": "Ethiopic", "km": "Khmer", "my": "Myanmar", "lo": "Lao", "gu": "Gujarati", "pa": "Gurmukhi", "kn": "Kannada",
    "ml": "Malayalam", "si": "Sinhala", "bo": "Tibetan",
}  # fmt: skip
_BY_SCRIPT = {code: regex.compile(rf"\p{{{script}}}[\p{{{script}}}\p{{M}}]*") for code, script in _SCRIPTS.items()}
_BY_SCRIPT |= {"zh": regex.compile(r"\p{Han}"), "ja": regex.compile(r"[\p{Hiragana}\p{Katakana}]")}
_ADDRESS = regex.compile(r"[!-~]+[@/][!-~]+")  # ASCII: it ends where Chinese goes on without a space
_ABBREVIATION = regex.compile(r"\b(?:Sen|Rep|Gov|et al)\.(?=\s)")  # English, though "sen" and "et" are words elsewhere
_LATIN_WORDS = regex.compile(r"\p{Latin}[\p{Latin}\p{M}]*(?:['’]\p{Latin}+)*")
_FORMS = {code: regex.compile(pattern) for code, pattern in FORMS.items()}
_ENGLISH_FORM = regex.compile(r"(?:wh|th).{2,}|.{3,}(?:ing|ed|ght|tion|ly|ness|ck|['’]s|n['’]t)")


def guess_language(text: str) -> str:
    """Return the ISO 639-1 code of the most likely language, "en" in doubt.

    The script with the most words decides (characters, in scripts without spaces); kana among Chinese characters mean
    Japanese. In Latin script frequent words and letters decide: a language needs more evidence than English has. So
    a text with a few foreign names stays English, and so do a name alone and a text in a language without a list.
    """
    sample = _ABBREVIATION.sub(" ", _ADDRESS.sub(" ", text[:_SAMPLE]))
    counts = {code: len(pattern.findall(sample)) for code, pattern in _BY_SCRIPT.items()}
    words = [word.replace("’", "'") for word in _LATIN_WORDS.findall(sample)]
    if counts["ja"] * 10 > counts["zh"]:
        counts["ja"] += counts["zh"]
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] > len(words) else _guess_latin(words, sample)


def _guess_latin(words: list[str], sample: str) -> str:
    if "¿" in sample or "¡" in sample:
        return "es"
    # A word counts as written in lower case if it is anywhere, or starts the text.
    written = dict.fromkeys(word for word in words if word.islower()) | dict.fromkeys(words[:1])
    known = {word.lower() for word in written}
    written |= dict.fromkeys(word for word in words if word.lower() not in known)
    known_to_english = sum(_evidence(word, "en", words[0]) for word in written)
    evidence = {"en": known_to_english}
    for code in WORDS.keys() - {"en"}:
        evidence[code] = sum(_evidence(word, code, words[0]) for word in written)
        own = any(word.lower() in WORDS[code] - WORDS["en"] for word in written if len(word) > 1)
        if own or not known_to_english:
            evidence[code] += sum(_form_evidence(word, code) for word in written)
    best = max(WORDS, key=evidence.__getitem__)  # English is first and wins a tie
    return best if evidence[best] >= _ENOUGH else "en"


_ENOUGH = 0.75


def _evidence(word: str, code: str, first: str) -> float:
    """Return how much a word speaks for a language, from 0 to 1; names, parts of names and letters say little."""
    lower = word.lower()
    name = not word.islower() and (word != first or word[1:].isupper())
    if lower in WORDS[code]:
        return 0.5 if lower in PARTICLES or name or (len(word) == 1 and code != "en") else 1
    if code == "en":
        return 0.5 if _ENGLISH_FORM.fullmatch(lower) else 0
    foreign = [letter for letter in lower if letter > "z"]
    if foreign and all(letter in LETTERS.get(code, "") for letter in foreign):
        return 1 if word.islower() else 0.35
    return 0


def _form_evidence(word: str, code: str) -> float:
    """Return 0.25 for a word of no list that looks like one of the language."""
    form = _FORMS.get(code)
    if form is None or not word.islower() or word in WORDS[code] or _is_english(word):
        return 0
    return 0.25 if form.fullmatch(word) else 0


def _is_english(word: str) -> bool:
    return word in WORDS["en"] or _ENGLISH_FORM.fullmatch(word) is not None
