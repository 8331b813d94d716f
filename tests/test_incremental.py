"""Text that arrives over time: its chunks by example, and the same chunks however it is cut."""

import pickle
import time

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import MARKED_TEXTS, check_kept

from fishcli.errors import InputError, SettingError
from fishcli.text import IncrementalScript, check, finished, normalize

# A text and its chunks.
EXAMPLES = {
    "sentences": (
        "Hello there. How are you? Fine!",
        ["Hello there.", "How are you?", "Fine!"],
    ),
    "titles and abbreviations": (
        "I saw Dr. Smith, e.g. this one. The U.S. Army was here vs. Mr. J. R. R. Tolkien. Mr.\nJones left. Bye",
        [
            "I saw Dr. Smith, e.g. this one.",
            "The U.S. Army was here vs. Mr. J. R. R. Tolkien.",
            "Mr. Jones left.",
            "Bye.",
        ],
    ),
    "an abbreviation that ends a sentence": (
        "He lives in the U.S. They left at 5 p.m. Then",
        ["He lives in the U.S.", "They left at 5 p.m.", "Then."],
    ),
    "numbers": (
        "Pi is 3.14. No. 5 costs $1,250.50. It",
        ["Pi is 3.14.", "No. 5 costs $1,250.50.", "It."],
    ),
    "ellipses": (
        "Wait... what is it? Well… so. Now",
        ["Wait... what is it?", "Well… so.", "Now."],
    ),
    "addresses": (
        "See https://example.com/a.b?c=d. Then www.example.org/index.html is next. Bye now",
        ["See https://example.com/a.b?c=d.", "Then www.example.org/index.html is next.", "Bye now."],
    ),
    "dialogue": (
        "“Why?” he asked. “Home. I am tired, and you?” she said. “No way!” He left. “Wait",
        ["“Why?” he asked.", "“Home.", "I am tired, and you?” she said.", "“No way!”", "He left.", "“Wait."],
    ),
    "straight quotes": (
        '"Why?" he asked. "Because." He said "Hi." "What" is next',
        ['"Why?" he asked.', '"Because."', 'He said "Hi."', '"What" is next.'],
    ),
    "brackets": (
        "It rained. (It poured.) [1] Then",
        ["It rained.", "(It poured.) [1] Then."],
    ),
    "emoji": (
        "Great! 😀 Next one. Good 👍. End 🎉",
        ["Great!", "😀 Next one.", "Good 👍.", "End."],
    ),
    "marks alone": (
        "*** Hello. ... World! ?!",
        ["*** Hello. ...", "World! ?!"],
    ),
    "a list": (
        "Buy this:\n- Milk\n- Eggs and bacon\n\nSteps:\n1. Open it.\n2. Close it. Well",
        ["Buy this.", "- Milk.", "- Eggs and bacon.", "Steps.", "1. Open it.", "2. Close it.", "Well."],
    ),
    "headings and wrapped lines": (
        "# Title\n\nIt was a cold\nday in April. The clocks\r\n\r\nwere striking\u2029thirteen",
        ["# Title.", "It was a cold day in April.", "The clocks.", "were striking.", "thirteen."],
    ),
    "lower case": (
        "hello! how are you? fine. bye",
        ["hello!", "how are you?", "fine.", "bye."],
    ),
    "Chinese": (
        "你好，世界！今天天气很好。“你好。”他说。 价格是3.5元。好",
        ["你好，世界！", "今天天气很好。", "“你好。”", "他说。", "价格是3.5元。", "好。"],
    ),
    "Japanese": (
        "吾輩は猫である。名前はまだ無い。「本当！」 はい。私",
        ["吾輩は猫である。", "名前はまだ無い。", "「本当！」", "はい。", "私。"],
    ),
    "Spanish": (
        "¿Cómo estás? ¡Muy bien! El Sr. Pérez vino a las 3.30 y dijo: «¡Hola!» ¿Qué tal? Fin",
        ["¿Cómo estás?", "¡Muy bien!", "El Sr. Pérez vino a las 3.30 y dijo: «¡Hola!»", "¿Qué tal?", "Fin."],
    ),
    "French": (
        "« Bonjour ! » Elle sourit. Oui",
        ["« Bonjour ! »", "Elle sourit.", "Oui."],
    ),
    "Hindi": (
        "यह पहला वाक्य है। यह दूसरा है। और",
        ["यह पहला वाक्य है।", "यह दूसरा है।", "और।"],
    ),
    "Arabic": (
        "كيف حالك؟ أنا بخير، شكرا لك. نعم",
        ["كيف حالك؟", "أنا بخير، شكرا لك.", "نعم."],
    ),
    "Korean": (
        "안녕하세요. 저는 3.14입니다. 오늘은 날씨가",
        ["안녕하세요.", "저는 3.14입니다.", "오늘은 날씨가."],
    ),
    "Thai": (
        "สวัสดีครับ ผมชื่อสมชาย",
        ["สวัสดีครับ ผมชื่อสมชาย."],
    ),
}


def said(spans):
    return [span.text for span in spans]


@pytest.mark.parametrize(("text", "chunks"), EXAMPLES.values(), ids=EXAMPLES)
def test_chunks(text, chunks):
    script = IncrementalScript(normalize=False)
    complete = said(span for character in text for span in script.feed(character))
    assert complete + said(script.close()) == chunks


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("Hello there. How", []),
        ("Hello there. How ", ["Hello there."]),
        ("Hello there.\n", []),
        ("Hello there.\n\n", ["Hello there."]),
        ("Hello there\n\n", ["Hello there."]),
        ("Hello there. " + "h" * 62, []),
        ("Hello there. " + "h" * 63, ["Hello there."]),
        ("Hello there. 你", ["Hello there."]),
        ("你好。", []),
        ("你好。我", ["你好。"]),
        ("你好。“", []),
        ("你好。“我", ["你好。"]),
        ("你好。”", []),
    ],
)
def test_a_sentence_waits_for_the_next_word_alone(text, complete):
    assert said(IncrementalScript().feed(text)) == complete


def test_flush_ends_the_sentence():
    script = IncrementalScript()
    assert said(script.feed("Hello. I have 3")) == ["Hello."]
    assert said(script.flush()) == ["I have three."]
    assert script.flush() == []
    assert script.feed(" 4 more. ") == []
    assert said(script.close()) == ["Four more."]


def test_marks_alone_outlast_a_flush():
    script = IncrementalScript()
    script.feed("“")
    assert script.flush() == []
    assert said(script.feed("Hello.” She ")) == ["Hello."]


@pytest.mark.parametrize("text", ["", " \n", "...", "😀"])
def test_nothing_to_speak_has_no_chunks(text):
    script = IncrementalScript()
    assert script.feed(text) == []
    assert script.close() == []


def test_sentences_are_normalised_whole():
    """ "$3" followed by ".50" is one number, wherever the text was cut."""
    script = IncrementalScript()
    spans = [span for piece in ("It cost $3", ".50 on 3/", "4. Then 2 ") for span in script.feed(piece)]
    assert said(spans) == ["It cost three dollars and fifty cents on March fourth."]
    assert spans[0][1:] == (0, 54)
    assert said(script.close()) == ["Then two."]


@pytest.mark.parametrize(
    ("text", "language", "chunk"),
    [
        ("Ich habe 2 Katzen und das ist gut. Und ", None, "Ich habe 2 Katzen und das ist gut."),
        ("Ich habe 2 Katzen und das ist gut. Und ", "en", "Ich habe two Katzen und das ist gut."),
        ("I have 2 cats. Und ", None, "I have two cats."),
        ("I have 2 cats. Und ", "de", "I have 2 cats."),
    ],
)
def test_the_language_decides(text, language, chunk):
    assert said(IncrementalScript(language=language).feed(text)) == [chunk]


def test_a_long_sentence_is_cut_by_the_splitter():
    script = IncrementalScript(60)
    spans = script.feed("When the long day was over at last, they went home, and nobody spoke of it ever again. So ")
    assert said(spans) == ["When the long day was over at last.", "they went home, and nobody spoke of it ever again."]


BOUNDS = pytest.mark.parametrize(("chunk_length", "bound"), [(1, 256), (100, 400), (5000, 4000)])


@pytest.mark.parametrize("unit", ["word ", "a", "你好", "สวัสดี ", "Mr. ", "a, "])
@BOUNDS
def test_a_text_without_an_end_is_cut_at_the_bound(unit, chunk_length, bound):
    script, waiting = IncrementalScript(chunk_length, normalize=False), 0
    for character in "a" + unit * (10_000 // len(unit)):
        waiting = 0 if script.feed(character) else waiting + 1
        assert waiting <= bound


@pytest.mark.parametrize("unit", ["word ", "你好", "Mr. ", "“", " ", "!", "a" + " " * 100, "a. "])
@BOUNDS
def test_memory_is_bounded(unit, chunk_length, bound):
    script = IncrementalScript(chunk_length, normalize=False)
    for _ in range(20_000 // len(unit)):
        script.feed(unit)
    assert len(pickle.dumps(script)) < 500 + 3 * (1000 + bound + 100)  # bytes of its text in UTF-8


@pytest.mark.parametrize("text", ["a\0b", "x\x1b[31m", "\ud800"])
def test_a_refused_piece_leaves_no_trace(text):
    script = IncrementalScript()
    script.feed("One. Two")
    with pytest.raises(InputError, match=f"at character {8 + regex.search('[^a-z]', text).start()};"):
        script.feed(text)
    assert said(script.feed(" more. ")) == ["One."]
    assert said(script.close()) == ["Two more."]


def test_too_long(monkeypatch):
    monkeypatch.setattr("fishcli.text.cleaning.MAX_CHARACTERS", 10)
    script = IncrementalScript()
    assert said(script.feed("One.\n\nTwo")) == ["One."]
    with pytest.raises(InputError, match="11 characters and at most 10"):
        script.feed("??")
    assert said(script.feed("?")) == []
    assert said(script.close()) == ["Two?"]


def test_a_chunk_length_below_one_is_refused():
    with pytest.raises(SettingError, match="at least 1"):
        IncrementalScript(0)


def test_page_breaks_are_newlines():
    assert said(IncrementalScript().feed("One\f\fTwo")) == ["One."]


def spans_of(text, pieces, flushes=(), **options):
    """Feed a text in pieces that end at the given places, flushing at some places."""
    script, spans, last = IncrementalScript(**options), [], 0
    for place in sorted({*pieces, *flushes, len(text)}):
        spans += script.feed(text[last:place])
        last = place
        if place in flushes:
            spans += script.flush()
    return spans + script.close()


OPTIONS = st.fixed_dictionaries(
    {
        "chunk_length": st.sampled_from([1, 20, 200]),
        "language": st.sampled_from([None, "en", "zh", "es"]),
        "normalize": st.booleans(),
    }
)
LONG_TEXTS = MARKED_TEXTS | st.tuples(st.lists(MARKED_TEXTS, min_size=1, max_size=3), st.integers(1, 30)).map(
    lambda given: "".join(given[0]) * given[1]
)


@settings(max_examples=300, deadline=None)
@given(LONG_TEXTS, st.data(), OPTIONS)
def test_cuts_do_not_matter(text, data, options):
    places = st.lists(st.integers(0, len(text)), max_size=6)
    flushes = set(data.draw(places))
    whole = spans_of(text, [], flushes, **options)
    assert spans_of(text, range(len(text)), flushes, **options) == whole
    assert spans_of(text, data.draw(places), flushes, **options) == whole


def test_spaces_before_a_blank_line_do_not_move_positions():
    text = "one* \n\ntwo* "
    assert spans_of(text, range(len(text))) == spans_of(text, [])


@settings(max_examples=300, deadline=None)
@given(LONG_TEXTS, st.sampled_from([1, 20, 200]), st.data())
def test_everything_is_kept_in_order(text, limit, data):
    flushes = set(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
    spans = spans_of(text, [], flushes, chunk_length=limit, normalize=False)
    check_kept(text, spans)
    for span in spans:
        assert span.text == finished(regex.sub(r"\s+", " ", text[span.start : span.end]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["I paid $5.", "He is 3!", "Dr. Smith came.", "2? 4 said."]), min_size=1))
def test_positions_are_those_of_the_normalised_text(sentences):
    text = " ".join(normalize(sentence, "en") for sentence in sentences)
    spans = spans_of(" ".join(sentences), [], language="en")
    assert said(spans) == [text[span.start : span.end] for span in spans]
    assert " ".join(said(spans)) == text


@pytest.mark.parametrize("unit", ["a", "你好", "a. ", "Mr. ", "“", "!a", "! ", " ", "a\n", "\u0301", "a" + " " * 70])
def test_time_is_linear(unit):
    text = check("a" + unit * (50_000 // len(unit)))
    started = time.process_time()
    spans_of(text, range(len(text)), normalize=False)
    assert time.process_time() - started < 15  # 0.1 to 1.3 s; a quadratic step takes minutes
