"""A pronunciation dictionary: words and the spellings that make the model say them right.

    [en]                        language,word,respelling
    Nguyen = "Win"              en,Nguyen,Win
    gif = "jiff"                en,gif,jiff
    ["*"]                       *,Fishcli,fish C L I
    Fishcli = "fish C L I"

A .toml file has a table for each language, a .csv file a row for each word; `*` is every language. Words match as
they stand, never as patterns; whole words only; of two that match the longer one. A word in lower case matches any
case ("gif": GIF, Gif); one with a capital matches exactly ("US" is not "us").
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import regex

from fishcli import text as texts
from fishcli.errors import InputError, SettingError
from fishcli.files import open_regular
from fishcli.text.chunks import UNSPACED
from fishcli.text.language_codes import primary_code

ANY = "*"
_MAX_BYTES = 2**22
_MAX_WORDS = 50_000
_MAX_WORD, _MAX_RESPELLING = 100, 400  # characters
_LETTER = regex.compile(r"[\p{L}\p{M}\p{N}_]")
_HEADER = ["language", "word", "respelling"]
_CONTROL = regex.compile(r"[\p{Cc}\p{Cs}]")

Words = dict[str, str]
_Places = list[tuple[int, Words]]  # words by length, longest first


@dataclass(frozen=True)
class Lexicon:
    """Respellings by language, `*` for all languages, and word."""

    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _found: dict[str, dict[str, _Places]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def read(cls, path: Path) -> Lexicon:
        """Return the dictionary in a .toml or .csv file. Raises InputError that names what is wrong, and where."""
        kind = path.suffix.lower()
        if kind not in (".toml", ".csv"):
            raise InputError(f"{path} is no dictionary; use a .toml or a .csv file.")
        with open_regular(path) as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES // 2**20} MiB; use a smaller one.")
        try:
            rows = (_toml_rows if kind == ".toml" else _csv_rows)(texts.decode(data))
            return cls(_checked(rows))
        except (ValueError, csv.Error, RecursionError, InputError, SettingError) as error:
            raise InputError(f"{path}: {str(error).rstrip('.')}.") from error

    @property
    def digest(self) -> str:
        """The SHA-256 of all words and respellings, 64 hexadecimal digits; the order in the file does not matter."""
        return hashlib.sha256(json.dumps(self.words, sort_keys=True).encode()).hexdigest()

    def apply(self, text: str, language: str | None = None) -> str:
        """Return the text with its words respelled, once: a respelling is not looked up again.

        Without `language` it is guessed. The text must be free of marks: see `marks.parse`.
        """
        if not any(self.words.values()):
            return text
        text = unicodedata.normalize("NFC", text)
        places = self._places(primary_code(language or texts.guess_language(text)))
        parts, done, at = [], 0, 0
        while at < len(text):
            found = _match(text, at, places)
            if found is None:
                at += 1
                continue
            parts += [text[done:at], found[1]]
            done = at = at + found[0]
        return "".join([*parts, text[done:]])

    def _places(self, language: str) -> dict[str, _Places]:
        """Return the words of a language by first letter and length. Those of the language go before those of all."""
        if language not in self._found:
            lengths: dict[str, dict[int, Words]] = {}
            for word, respelling in {**self.words.get(ANY, {}), **self.words.get(language, {})}.items():
                for first in {word[0], word[0].upper()} if word == word.lower() else {word[0]}:
                    lengths.setdefault(first, {}).setdefault(len(word), {})[word] = respelling
            self._found[language] = {first: sorted(found.items(), reverse=True) for first, found in lengths.items()}
        return self._found[language]


def _match(text: str, at: int, places: dict[str, _Places]) -> tuple[int, str] | None:
    """Return the length and the respelling of the longest word that stands at a place of a text."""
    for length, words in places.get(text[at], ()):
        word = text[at : at + length]
        respelling = words.get(word) or words.get(word.lower())
        if respelling is not None and len(word) == length and _is_whole(text, at, at + length):
            return length, respelling
    return None


def _is_whole(text: str, start: int, end: int) -> bool:
    return not (_joins(text[start - 1 : start], text[start]) or _joins(text[end - 1], text[end : end + 1]))


def _joins(left: str, right: str) -> bool:
    """Return whether two characters belong to one word: letters or numbers, not of a script without spaces."""
    if not left or not right or not _LETTER.match(left) or not _LETTER.match(right):
        return False
    return not (UNSPACED.match(left) or UNSPACED.match(right))


def _toml_rows(text: str) -> Iterator[tuple[str, str, object, object]]:
    """Yield place, language, word and respelling. Raises ValueError for a file that is no TOML."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    for language, words in tomllib.loads(text).items():
        if not isinstance(words, dict):
            raise ValueError(f"{language!r:.40} stands in no table; write it below [en], or another language")
        yield from ((f"[{language}]", language, word, respelling) for word, respelling in words.items())


def _csv_rows(text: str) -> Iterator[tuple[str, str, object, object]]:
    for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == _HEADER):
            continue
        if len(cells) != len(_HEADER):
            raise ValueError(f"row {number} has {len(cells)} fields, and {','.join(_HEADER)} are three")
        yield (f"row {number}", cells[0], cells[1], cells[2])


def _checked(rows: Iterator[tuple[str, str, object, object]]) -> dict[str, Words]:
    found: dict[str, Words] = {}
    for count, (place, language, word, respelling) in enumerate(rows, 1):
        if count > _MAX_WORDS:
            raise ValueError(f"it has more than {_MAX_WORDS:,} words; split it")
        if language != ANY:
            texts.check_language(language)
        words = found.setdefault(primary_code(language), {})
        word = _text(word, f"the word {word!r:.40} in {place}", _MAX_WORD)
        if word in words:
            raise ValueError(f"{word!r:.40} in {place} stands there twice")
        words[word] = _text(respelling, f"the respelling of {word!r:.40} in {place}", _MAX_RESPELLING)
    return found


def _text(value: object, name: str, limit: int) -> str:
    if not isinstance(value, str) or not (value := value.strip()) or _CONTROL.search(value):
        raise ValueError(f"{name} is no text")
    if len(value) > limit:
        raise ValueError(f"{name} is longer than {limit} characters")
    return unicodedata.normalize("NFC", value)
