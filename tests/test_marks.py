"""Marks: pauses and voices in a text."""

import pytest

from fishcli.errors import InputError
from fishcli.jobs import marks
from fishcli.jobs.marks import Pause, Speech


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, [world]!", [Speech("Hello, [world]!")]),
        ("", [Speech("")]),
        ("One. [pause:1.5s] Two.", [Speech("One."), Pause(1.5), Speech("Two.")]),
        ("[PAUSE: 300 ms]Two", [Pause(0.3), Speech("Two")]),
        ("a[pause:.5s]b[pause:0s][pause:10s]", [Speech("a"), Pause(0.5), Speech("b"), Pause(0), Pause(10)]),
        ('a<break time="1.5s"/>b', [Speech("a"), Pause(1.5), Speech("b")]),
        ("a <BREAK  time = '250ms' > b</break> c", [Speech("a"), Pause(0.25), Speech("b"), Speech("c")]),
        ("[voice:Bob] a [voice: Ann Lee ] b [voice:] c", [Speech("a", "Bob"), Speech("b", "Ann Lee"), Speech("c")]),
        ("[voice:Bob] Hi. [pause:1s] Ho.", [Speech("Hi.", "Bob"), Pause(1), Speech("Ho.", "Bob")]),
        ("[voice:Bob] Hi.\n\nNext.\n \nLast.", [Speech("Hi.", "Bob"), Speech("Next."), Speech("Last.")]),
        ('"Go," [pause:1s] ... [pause:1s] he said', [Speech('"Go,"'), Pause(1), Pause(1), Speech("he said")]),
        ("[voice breaking] Pause. A <breakfast> break.", [Speech("[voice breaking] Pause. A <breakfast> break.")]),
    ],
)  # fmt: skip
def test_parse(text, expected):
    assert marks.parse(text) == expected


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("[pause]", "is no mark of a pause"),
        ("[pause 1s]", "is no mark of a pause"),
        ("[pause:1]", "is no mark of a pause"),
        ("[pause:-1s]", "is no mark of a pause"),
        ("[pause:nans]", "is no mark of a pause"),
        ("[pause:1e3s]", "is no mark of a pause"),
        ("[pause:1s", "is no mark of a pause"),
        ("[pause:10.1s]", "is longer than 10 s"),
        ("[pause:10001ms]", "is longer than 10 s"),
        ("<break/>", "is no mark of a pause"),
        ('<break strength="weak"/>', "is no mark of a pause"),
        ('<break time="11s"/>', "is longer than 10 s"),
        ("<break time='1s\"/>", "is no mark of a pause"),
        ("[voice:Bob", "is no mark of a voice"),
        (f"[voice:{'x' * 65}]", "is no mark of a voice"),
    ],
)
def test_a_malformed_mark_is_named(mark, said):
    with pytest.raises(InputError, match=said) as caught:
        marks.parse(f"Words {mark} words.")
    assert mark[:12] in str(caught.value)


def test_plain_has_no_marks_and_all_words():
    assert marks.plain('A[pause:1s] b <break time="1s"/>c [voice:Bob]d [pause oh]e') == "A b c d e"


def test_breaks_become_brackets():
    assert marks.bracketed("a <break time=\"1.5s\"></break> <break time='20MS'/>") == "a [pause:1.5s] [pause:20MS]"
    assert marks.parse(marks.bracketed("a <break time='20MS'/>")) == [Speech("a"), Pause(0.02)]
