"""Text normalisation: numbers, dates, times, money, units and abbreviations written out as words, by language.

English has its own rules (`english`): the English grammar of `wetext` reads "1,250.50" as "thousand two hundred and
fifty point five" and "1990s" as seconds. Its Chinese and Japanese grammars are good (`cjk`); they need the extra
`fishcli[normalize]`.
"""

from importlib.util import find_spec

from fishcli.text.language import guess_language
from fishcli.text.language_codes import primary_code
from fishcli.text.normalize.cjk import in_characters
from fishcli.text.normalize.english import in_words

_NEEDS_EXTRA = ("zh", "ja")


def can_normalize(language: str) -> bool:
    """Return whether `normalize` has rules for a language here; Chinese and Japanese need the extra."""
    return primary_code(language) in ("en", *_NEEDS_EXTRA) and not needs_extra(language)


def needs_extra(language: str) -> bool:
    """Return whether a language, such as "zh-CN", can be normalised only with the extra, which is not installed."""
    return primary_code(language) in _NEEDS_EXTRA and find_spec("wetext") is None


def normalize(text: str, language: str | None = None) -> str:
    """Return the text with all that is not words written out; unchanged where `can_normalize` is false.

    Without `language` (ISO 639-1, or a tag such as "en-GB") it is guessed.
    """
    primary = primary_code(language or guess_language(text))
    if primary == "en":
        return in_words(text)
    return in_characters(text, primary) if can_normalize(primary) else text
