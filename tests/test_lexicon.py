"""Pronunciation dictionaries."""

import pytest

from fishcli.errors import InputError
from fishcli.jobs.lexicon import Lexicon

WORDS = {
    "en": {"gif": "jiff", "Nguyen": "Win", "US": "U S", "C++": "see plus plus", ".NET": "dot net", "a.b*": "literal"},
    "*": {"gif": "wrong", "New York": "Noo York", "New York City": "the city", "é": "ay"},
    "zh": {"重庆": "虫庆"},
}


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("GIF, gifs, Gif; agif gif", "en", "jiff, gifs, jiff; agif jiff"),
        ("Nguyen nguyen NGUYEN", "en-US", "Win nguyen NGUYEN"),
        ("US us Us", "en_GB", "U S us Us"),
        ("I like C++ and .NET.", "en", "I like see plus plus and dot net."),
        ("axb a.b* aab", "en", "axb literal aab"),
        ("New York City, New York", "en", "the city, Noo York"),
        ("gif", "de", "wrong"),
        ("我在重庆。", "zh", "我在虫庆。"),
        ("我在重庆。", None, "我在虫庆。"),
        ("我在重庆。", "ja", "我在重庆。"),
        ("cafe\u0301 e\u0301", "fr", "café ay"),
        ("", "en", ""),
    ],
)
def test_whole_words_are_respelled(text, language, expected):
    assert Lexicon(WORDS).apply(text, language) == expected


def test_a_respelling_is_not_respelled():
    assert Lexicon({"en": {"a": "b", "b": "a"}}).apply("a b", "en") == "b a"


def test_without_words_the_text_stays():
    assert Lexicon({"en": {}}).apply("e\u0301", "en") == "e\u0301"


def test_toml_and_csv_are_the_same(tmp_path):
    (tmp_path / "a.toml").write_text(
        '[en]\nNguyen = "Win"\n"C++" = "see plus plus"\n["*"]\nx = "ex"\n', encoding="utf-8"
    )
    rows = "\ufefflanguage,word,respelling\n*,x,ex\nen-GB,C++,see plus plus\n\nen, Nguyen ,Win\n"
    (tmp_path / "b.csv").write_text(rows, encoding="utf-8")
    first, second = Lexicon.read(tmp_path / "a.toml"), Lexicon.read(tmp_path / "b.csv")
    assert first.words == second.words == {"en": {"Nguyen": "Win", "C++": "see plus plus"}, "*": {"x": "ex"}}
    assert first.digest == second.digest != Lexicon({"en": {"Nguyen": "Win"}}).digest


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", "", r"use a \.toml or a \.csv"),
        ("a.toml", 'x = "y"', "stands in no table"),
        ("a.toml", "[en]\nx = 3", "respelling of 'x' in \\[en\\] is no text"),
        ("a.toml", '[english]\nx = "y"', "did you mean 'en'"),
        ("a.toml", "[en", "end of a table declaration"),
        ("a.toml", '[en]\nx = "y"\n[en-GB]\nx = "z"', "stands there twice"),
        ("a.toml", '[en]\nx = ""', "is no text"),
        ("a.toml", f'[en]\nx = "{"y" * 401}"', "longer than 400"),
        ("a.csv", f"en,{'x' * 101},y", "longer than 100"),
        ("a.csv", "en,x", "row 1 has 2 fields"),
        ("a.csv", 'en,"x', "unexpected end of data"),
        ("a.csv", "x" * (2**22 + 1), "larger than 4 MiB"),
        ("a.csv", b"en,\xff,y", "not UTF-8"),
    ],
)  # fmt: skip
def test_a_faulty_file_is_refused(tmp_path, name, data, said):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(InputError, match=said) as caught:
        Lexicon.read(path)
    assert str(path) in str(caught.value)


def test_too_many_words_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fishcli.jobs.lexicon._MAX_WORDS", 2)
    (tmp_path / "a.csv").write_text("en,a,b\nen,c,d\nen,e,f\n")
    with pytest.raises(InputError, match="more than 2 words"):
        Lexicon.read(tmp_path / "a.csv")
