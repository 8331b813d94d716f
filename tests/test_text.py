"""Cleaning, checking and splitting, by example and by property."""

import time
import unicodedata

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import TEXTS, check_kept

from fishcli.errors import InputError, SettingError
from fishcli.text import (
    MAX_CHARACTERS,
    IncrementalScript,
    check,
    clean,
    decode,
    finished,
    guess_language,
    prepare,
    seconds,
    speakable,
    split,
)
from fishcli.text.chunks import ends_sentence


def test_clean_is_the_reference(golden_text):
    assert [clean(text["text"]) for text in golden_text] == [text["clean"] for text in golden_text]


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"plain", "plain"), ("\ufeffna\u00efve".encode(), "naïve"), (b"", ""), ("a\ufeffb".encode(), "a\ufeffb")],
)
def test_decode(data, text):
    assert decode(data) == text


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"caf\xe9 au lait", 3),
        (b"\xff\xfeh\x00", 0),
        (b"\xef\xbb\xbfab\xc3", 5),
        (b"\xed\xa0\x80", 0),
        (b"a\xc0\xaf", 1),
    ],
)
def test_decode_names_the_byte(data, offset):
    with pytest.raises(InputError, match=f"0x{data[offset]:02x} at offset {offset} "):
        decode(data)


@pytest.mark.parametrize("text", ["", " \n\t", "😀🎉", "❤️ 🤔", "...!?", "— “” —", "$ % &", "。、", "\u0301", "\u200d"])
def test_nothing_to_speak(text):
    with pytest.raises(InputError, match="nothing to speak"):
        check(text)


@pytest.mark.parametrize("text", ["a", "5", "½", "②", "好", "ー", "नमस्ते", "😀 ok", "1️⃣", "tab\tline\r\n"])
def test_something_to_speak(text):
    assert check(text) == text


def test_page_breaks_are_newlines():
    assert check("one\ftwo\vthree\x85four") == "one\ntwo\nthree\nfour"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("h\0i", "control character, U\\+0000, at character 1;"),
        ("\x1b[31mred", "control character, U\\+001B, at character 0;"),
        ("del\x7f", "control character, U\\+007F, at character 3;"),
        ("hi \ud83d", "lone surrogate, U\\+D83D, at character 3;"),
    ],
)
def test_what_cannot_be_spoken_is_named(text, named):
    with pytest.raises(InputError, match=named):
        check(text)


def test_too_long():
    assert check("a" * MAX_CHARACTERS)
    with pytest.raises(InputError, match="1,000,001 characters"):
        check("a" * (MAX_CHARACTERS + 1))


EXAMPLES = {
    "titles, addresses and numbers stay whole": (
        "Mr. Jones, of 192.168.10.25, said that pi is 3.14 and Dr. Smith paid $1,250.50 for 12 kg of No. 5 apples.",
        [
            "Mr. Jones, of 192.168.10.25,",
            "said that pi is 3.14 and Dr. Smith paid",
            "$1,250.50 for 12 kg of No. 5 apples.",
        ],
    ),
    "a title is no end": (
        "She met Mrs. Smith vs. Dr. Who of St. Louis, and it cost approx. 5 pounds of tea.",
        ["She met Mrs. Smith vs. Dr. Who of St. Louis,", "and it cost approx. 5 pounds of tea."],
    ),
    "an abbreviation before a number is no end": (
        "He plays Op. 27 by heart. Tel. 5 is mine, Fig. 3 is ours. It weighs 8 lbs. 3 oz. as pp. 5 and p. 7 show.",
        [
            "He plays Op. 27 by heart. Tel. 5 is mine, Fig. 3 is ours.",
            "It weighs 8 lbs. 3 oz. as pp. 5 and p. 7 show.",
        ],
    ),
    "an abbreviation before words is one": (
        "She sang (b. 1910, d. eighty years on) op. twenty seven, and paid Rs. five hundred for it in all.",
        ["She sang (b. 1910, d. eighty years on) op. twenty seven,", "and paid Rs. five hundred for it in all."],
    ),
    "short sentences share a chunk": (
        "One. Two! Three? Four... Five.",
        ["One. Two! Three? Four... Five."],
    ),
    "a short last chunk takes over": (
        "This sentence is forty characters long. This is ten. No. This one goes on to fifty-nine. It is.",
        ["This sentence is forty characters long. This is ten.", "No. This one goes on to fifty-nine. It is."],
    ),
    "even pieces": (
        "word " * 29 + "word.",
        ["word " * 9 + "word", "word " * 9 + "word", "word " * 9 + "word."],
    ),
    "at commas before spaces": (
        "When the long day was over at last, they went home, and nobody spoke of it ever again.",
        ["When the long day was over at last,", "they went home, and nobody spoke of it ever again."],
    ),
    "what is quoted is one sentence until it is too long": (
        "“Where are you going?” he asked. “Home. I am tired. I was there all day and I want to sleep.” “Why?”",
        ["“Where are you going?” he asked. “Home. I am tired.", "I was there all day and I want to sleep.” “Why?”"],
    ),
    "ellipses": (
        "Well... I thought that it was done... but it was not done… and so we went on and on until the end.",
        ["Well... I thought that it was done... but it was not done…", "and so we went on and on until the end."],
    ),
    "a list": (
        "Milk\nEggs and bacon\nBread\nCheese\nA bottle of very good red wine\nApples",
        ["Milk Eggs and bacon Bread Cheese", "A bottle of very good red wine Apples"],
    ),
    "wrapped lines are one sentence": (
        "It was a bright cold\nday in April. The clocks\nwere striking the hour.",
        ["It was a bright cold day in April.", "The clocks were striking the hour."],
    ),
    "a blank line starts a chunk": (
        "Title\n\nFirst. Second.\r\n\r\nThird.\n \n\n* * *\n\nFourth.",
        ["Title", "First. Second.", "Third. * * *", "Fourth."],
    ),
    "addresses": (
        "Visit https://example.com/a.b?c=d,e and www.example.org/index.html for more of it. Bye.",
        ["Visit https://example.com/a.b?c=d,e and", "www.example.org/index.html for more of it. Bye."],
    ),
    "marks alone": ("Go!\n\n?!\n\n" + "?" * 80, ["Go! ?! " + "?" * 40]),
    "a long word": ("a" * 130 + " bb", ["a" * 44, "a" * 44, "a" * 42 + " bb"]),
    "families stay together": (
        "ok" + "👨\u200d👩\u200d👧" * 4 + "ok",
        ["ok" + "👨\u200d👩\u200d👧" * 2, "👨\u200d👩\u200d👧" * 2 + "ok"],
    ),
    "Hindi": (
        "यह पहला वाक्य है। यह दूसरा है। और यह तीसरा वाक्य है।",
        ["यह पहला वाक्य है।", "यह दूसरा है।", "और यह तीसरा वाक्य है।"],
    ),
    "Arabic": (
        "كيف حالك؟ أنا بخير، شكرا لك يا صديقي العزيز. هل أنت بخير؟ نعم.",
        ["كيف حالك؟ أنا بخير،", "شكرا لك يا صديقي العزيز.", "هل أنت بخير؟ نعم."],
    ),
    "Chinese": (
        "你好，世界！今天天气很好。我们一起去公园散步吧，然后去吃饭，最后回家睡觉。",
        ["你好，世界！今天天气很好。", "我们一起去公园散步吧，", "然后去吃饭，最后回家睡觉。"],
    ),
    "Chinese without marks": (
        "这是一个没有标点符号的非常长的句子它应该被切成几个差不多长的部分",
        ["这是一个没有标点符号的非常长的句", "子它应该被切成几个差不多长的部分"],
    ),
    "Japanese": (
        "吾輩は猫である。名前はまだ無い。「行くの？」と聞いた。「うん。」",
        ["吾輩は猫である。名前はまだ無い。", "「行くの？」と聞いた。「うん。」"],
    ),
    "Korean": (
        "안녕하세요. 저는 3.14입니다. 오늘은 날씨가 정말 좋네요.",
        ["안녕하세요. 저는 3.14입니다.", "오늘은 날씨가 정말 좋네요."],
    ),
    "Spanish": (
        "¿Cómo estás? ¡Muy bien! El Sr. Pérez vino a las 3.30 y dijo: «¡Hola!» ¿Qué tal?",
        ["¿Cómo estás? ¡Muy bien!", "El Sr. Pérez vino a las 3.30 y dijo: «¡Hola!»", "¿Qué tal?"],
    ),
    "Thai, at a space": ("สวัสดีครับ ผมชื่อสมชาย", ["สวัสดีครับ", "ผมชื่อสมชาย"]),
    "Thai, anywhere": ("กขคงจฉชซฌญ" * 3, ["กขคงจฉชซฌญกขคงจ", "ฉชซฌญกขคงจฉชซฌญ"]),
}


@pytest.mark.parametrize(("text", "chunks"), EXAMPLES.values(), ids=EXAMPLES)
def test_split(text, chunks):
    assert [span.text for span in split(text, 60)] == chunks


@pytest.mark.parametrize(
    ("before", "after", "ends"),
    [
        ("He said no. ", "5 people left.", True),
        ("He lives at no. ", "5 now.", False),
        ("He plays Op. ", "27.", False),
        ("It costs Rs. ", "500.", False),
        ("It costs Rs. ", "five hundred.", False),
        ("Ann (b. ", "1910) sang.", False),
        ("See Abb. ", "3.", False),
        ("It is in vol. ", "Then he left.", True),
        ("He saw the lab. ", "5 people left.", True),
    ],
)
def test_an_abbreviation_before_a_number(before, after, ends):
    assert ends_sentence(before + after, len(before)) == ends


def test_a_limit_that_cuts_nothing_is_refused():
    with pytest.raises(SettingError, match="at least 1"):
        split("a", 0)


def graphemes(text):
    return [match.end() for match in regex.finditer(r"\X", text)]


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.sampled_from([1, 5, 20, 60, 200]))
def test_split_keeps_everything_in_order(text, limit):
    spans = split(text, limit)
    ends = {0, *graphemes(text)}
    check_kept(text, spans)
    for span in spans:
        assert span.text == regex.sub(r"\s+", " ", text[span.start : span.end]) == span.text.strip()
        assert len(span.text.encode()) <= limit or len(graphemes(span.text)) == 1
        for edge in (span.start, span.end):
            assert edge in ends or text[edge - 1].isspace() or text[edge].isspace()


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_marks_are_left_out_only_where_no_chunk_has_room(text):
    kept = "".join(span.text for span in split(text, 10_000))
    assert [c for c in kept if not c.isspace()] == [c for c in text if not c.isspace()] or not speakable(text)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["word", "192.168.10.25", "1,250.50", "isn't", "naïve", "3.14"]), min_size=1, max_size=40)
)
def test_words_and_numbers_stay_whole(words):
    chunks = split(" ".join(words), 20)
    assert [word for chunk in chunks for word in chunk.text.split(" ")] == words


@pytest.mark.parametrize(
    "unit",
    ["a", "你好", "ก", "a. ", "a, ", "word ", "“", "(a. ", "Mr. ", "a\n\n", " ", "e\u0301", "🇩🇪", "\u0301", "1", "!a"],
)
def test_time_is_linear(unit):
    text = "a" + unit * (100_000 // len(unit)) + "a"
    started = time.process_time()
    assert split(text)
    assert time.process_time() - started < 30  # 0.2 to 0.6 s; a quadratic step takes minutes


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Hello, world!"),
        ("en", "12345"),
        ("en", "Café Müller in Köln is a nice place."),
        ("en", "San José and Señor Núñez went to El Niño and Los Angeles."),
        ("en", "La La Land"),
        ("en", "Zoë's résumé, vis-à-vis the déjà vu of Les Misérables"),
        ("en", "I love 你好 noodles"),
        ("de", "Die Katze ist auf dem Tisch."),
        ("de", "Guten Morgen"),
        ("fr", "Bonjour le monde"),
        ("fr", "Merci beaucoup, c'est très gentil"),
        ("es", "Hola, mundo"),
        ("es", "¿Qué?"),
        ("it", "La vita è bella e il mondo non è così grande"),
        ("pt", "O menino não está aqui."),
        ("nl", "Het is niet ver van hier."),
        ("sv", "Jag är inte här"),
        ("zh", "你好，世界！"),
        ("zh", "请打开 https://example.com/abc/def"),
        ("ja", "日本語のテキストも、読めます。"),
        ("ja", "テスト"),
        ("ko", "한국어 문장입니다."),
        ("ar", "نص عربي قصير"),
        ("ru", "Привет, мир"),
        ("hi", "यह वाक्य है"),
        ("th", "สวัสดีครับ"),
    ],
)
def test_guess_language(language, text):
    assert guess_language(text) == language


def test_every_script_that_is_told_has_a_character():
    """A misspelt script name would raise, a wrong one would never be guessed."""
    samples = {
        "el": "αβγ",
        "he": "שלום",
        "bn": "বাংলা",
        "ta": "தமிழ்",
        "te": "తెలుగు",
        "hy": "բարեւ",
        "ka": "ქართული",
        "am": "አማርኛ",
    }
    samples |= {
        "km": "ខ្មែរ",
        "my": "မြန်မာ",
        "lo": "ລາວ",
        "gu": "ગુજરાતી",
        "pa": "ਪੰਜਾਬੀ",
        "kn": "ಕನ್ನಡ",
        "ml": "മലയാളം",
        "si": "සිංහල",
        "bo": "བོད་",
    }
    assert {code: guess_language(text) for code, text in samples.items()} == {code: code for code in samples}
    assert all(speakable(unicodedata.normalize("NFD", text)) for text in samples.values())


@pytest.mark.parametrize(
    ("text", "language", "chunks"),
    [
        ("I paid $5. Why?", None, ["I paid five dollars. Why?"]),
        ("Chapter 2", None, ["Chapter two."]),
        ("Ich habe 2 Katzen, und das ist gut", None, ["Ich habe 2 Katzen, und das ist gut."]),
        ("Ich habe 2 Katzen", "en", ["Ich habe two Katzen."]),
        ("One.\f\fTwo", None, ["One.", "Two."]),
        ("你好", None, ["你好。"]),
    ],
)
def test_prepare(text, language, chunks):
    script = prepare(text, language=language)
    assert [span.text for span in script.spans] == chunks
    assert script.language == (language or guess_language(text))
    assert script.seconds == sum(map(seconds, chunks))
    assert [finished(script.text[span.start : span.end]) for span in script.spans] == chunks


def test_prepare_without_normalisation():
    script = prepare("I paid $5", normalize=False)
    assert script.text == "I paid $5"
    assert script.spans == (("I paid $5.", 0, 9),)


def test_a_text_may_grow_when_it_is_normalised(monkeypatch):
    monkeypatch.setattr("fishcli.text.cleaning.MAX_CHARACTERS", 10)
    assert prepare("7 7 7 7 7").text == "Seven seven seven seven seven"


@pytest.mark.parametrize(
    ("text", "chunk_length", "error"),
    [
        ("...", 200, InputError),
        ("a\0", 200, InputError),
        ("a" * (MAX_CHARACTERS + 1), 200, InputError),
        ("a", 0, SettingError),
    ],
)
def test_prepare_refuses(text, chunk_length, error):
    with pytest.raises(error):
        prepare(text, chunk_length)


@settings(max_examples=200, deadline=None)
@given(TEXTS.filter(speakable), st.sampled_from([1, 20, 200]), st.sampled_from([None, "en", "zh"]))
def test_without_normalisation_a_chunk_gets_its_mark_alone(text, limit, language):
    script = prepare(text, limit, language, normalize=False)
    assert script.text == check(text)
    assert list(script.spans) == [s._replace(text=finished(s.text)) for s in split(check(text), limit, language)]


@settings(max_examples=200, deadline=None)
@given(TEXTS.filter(speakable), st.sampled_from([1, 20, 200]), st.sampled_from([None, "en", "zh"]))
def test_positions_are_those_of_the_script(text, limit, language):
    script = prepare(text, limit, language)
    check_kept(script.text, script.spans)
    for span in script.spans:
        assert span.text == finished(regex.sub(r"\s+", " ", script.text[span.start : span.end]))


@pytest.mark.parametrize(
    ("language", "meant"),
    [
        ("english", "en"), ("eng", "en"), ("German", "de"), ("deutsch", "de"), ("ger", "de"), ("englsh", "en"),
        ("chinese", "zh"), ("jp", "ja"), ("cn", "zh"), ("español", "es"), ("xx", ""), ("", ""), ("en english", "en"),
        ("e", ""), ("klingon", ""),
    ],
)  # fmt: skip
def test_an_unknown_language_is_refused(language, meant):
    with pytest.raises(SettingError, match=f"did you mean '{meant}'" if meant else "give two letters") as error:
        prepare("Hi", language=language)
    assert error.value.field == "language"
    with pytest.raises(SettingError):
        IncrementalScript(language=language)


@pytest.mark.parametrize("language", ["en", "EN", "en-GB", "pt_BR", "zh-Hant-TW", "yue", "sr"])
def test_a_language_code_is_taken(language):
    assert prepare("Hi", language=language).language == language


def test_an_undecoded_byte_names_the_locale(monkeypatch):
    """Under a locale such as C, Python keeps each byte of an argument that is not ASCII as a surrogate."""
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "ascii")
    with pytest.raises(InputError, match=r"locale, ascii: byte 0xc3 at character 3; set a UTF-8 locale"):
        check("Caf\udcc3\udca9")
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "utf-8")
    with pytest.raises(InputError, match="not UTF-8: byte 0xc3 at character 3"):
        check("Caf\udcc3\udca9")
