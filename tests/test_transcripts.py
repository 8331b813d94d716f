"""The comparison of a transcript with the text that was spoken, by example."""

import pytest

from fishcli.text.transcripts import edit_distance, error_rate, units

SAME = [
    ("en", "It costs twenty dollars.", "It costs $20"),
    ("en", "The train leaves at nine fifteen.", "the train leaves at 9:15"),
    ("en", "There are three hundred and sixty-five days.", "There are 365 days."),
    ("en", "She is the second of four.", "she is the 2nd of 4"),
    ("en", "My favourite colour is grey.", "My favorite color is gray."),
    ("en", "We realised that the theatre was cancelled.", "We realized that the theater was canceled."),
    ("en", "“Wait!” he said — quietly…", "wait, he said quietly"),
    ("en", "I don’t know; they're late, it's cold.", "I do not know, they are late. Its cold."),
    ("en", "The ice cream is for everyone.", "The icecream is for every one."),
    ("en", "The knight knew their son.", "The night new there sun"),
    ("zh", "今天天气很好。", "今天天气很好"),
    ("ja", "こんにちは、世界！", "こんにちは世界"),
    ("de", "Schön, dass du da bist!", "schön dass du da bist"),
]
OTHER = [
    ("en", "The cat sat on the mat.", "The cat sat on a mat", 1 / 6),
    ("en", "Hello there.", "", 1),
    ("en", "Hello.", "Hello hello hello.", 2),
    ("en", "He has 15 apples.", "He has 50 apples.", 1 / 4),
    ("zh", "今天天气很好。", "今天天器很好", 1 / 6),
    ("zh", "今天天气", "", 1),
    ("th", "สวัสดี", "สวัสดิ", 1 / 6),
    ("de", "Guten Morgen", "Guten Abend", 1 / 2),
    ("en", "...", "anything", 0),
]


@pytest.mark.parametrize(("language", "spoken", "heard"), SAME)
def test_what_sounds_the_same_is_no_error(language, spoken, heard):
    assert units(spoken, language)
    assert error_rate(spoken, heard, language) == 0, (units(spoken, language), units(heard, language))


@pytest.mark.parametrize(("language", "spoken", "heard", "rate"), OTHER)
def test_other_words_are_errors(language, spoken, heard, rate):
    assert error_rate(spoken, heard, language) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("expected", "got", "distance"),
    [("abc", "abc", 0), ("abc", "", 3), ("", "ab", 2), ("abcd", "acbd", 2), (["a", "b"], ["ab"], 0), (["ab"], "ab", 0)],
)
def test_the_edit_distance_joins_neighbours_for_free(expected, got, distance):
    assert edit_distance(expected, got) == distance
