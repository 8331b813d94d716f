"""What is spoken for numbers, dates, times, money, units and abbreviations, in whole texts; sentences lie in tables."""

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fishcli.text import can_normalize, needs_extra, normalize
from fishcli.text.normalize.numerals import cardinal, in_pairs, number, ordinal, roman

# Written, then as it is spoken.
ENGLISH = [
    (
        "On 3/4/2024 at 7:30 pm Dr. Smith paid $1,250.50 for 12 kg.",
        "On March fourth, twenty twenty four at seven thirty p m Doctor Smith paid one thousand two hundred "
        "fifty dollars and fifty cents for twelve kilograms.",
    ),
    (
        "He was born in 1984, in the '80s, not in the 1990s.",
        "He was born in nineteen eighty four, in the eighties, not in the nineteen nineties.",
    ),
    (
        "The meeting on January 5, 2023 moved to 6 February 2023.",
        "The meeting on January fifth, twenty twenty three moved to the sixth of February twenty twenty three.",
    ),
    (
        "2024-12-25 is Christmas; 25/12/2024 is the same day.",
        "December twenty fifth, twenty twenty four is Christmas; December twenty fifth, twenty twenty four is"
        " the same day.",
    ),
    (
        "The 21st century, the 3rd man and the 4th of July.",
        "The twenty first century, the third man and the fourth of July.",
    ),
    (
        "It opens at 9 a.m. and closes at 17:45, not at 12:00.",
        "It opens at nine a m and closes at seventeen forty five, not at twelve o'clock.",
    ),
    (
        "Call (555) 123-4567 or 555-0199.",
        "Call five five five, one two three, four five six seven or five five five, zero one nine nine.",
    ),
    (
        "The house costs £1.5m or €20, not $0.99.",
        "The house costs one point five million pounds or twenty euros, not ninety nine cents.",
    ),
    (
        "A $5 bill covers $3-4 of a 50% share.",
        "A five dollar bill covers three to four dollars of a fifty percent share.",
    ),
    (
        "It was -5°C, then 68 °F, then 1°.",
        "It was minus five degrees Celsius, then sixty eight degrees Fahrenheit, then one degree.",
    ),
    (
        "A 10-km run at 12 km/h, 5'10\" tall, 60 m² of 2x4s.",
        "A ten-kilometer run at twelve kilometers per hour, five foot ten tall, sixty square meters of two by fours.",
    ),
    (
        "Add 1/2 cup, 2/3 cup and 5 1/2 spoons, 24/7.",
        "Add one half cup, two thirds cup and five and a half spoons, twenty four seven.",
    ),
    (
        "See pp. 10–20, Fig. 3, and No. 5 of Vol. 2.",
        "See pages ten to twenty, Figure three, and Number five of Volume two.",
    ),
    (
        "Mail joe@example.com or visit www.example.com/shop.",
        "Mail joe at example dot com or visit w w w dot example dot com slash shop.",
    ),
    (
        "The server 192.168.10.25 runs v1.2.3.",
        "The server one nine two dot one six eight dot one zero dot two five runs version one point two point three.",
    ),
    (
        "Prof. Lee lives at 123 Main St. near St. John.",
        "Professor Lee lives at one hundred twenty three Main Street near Saint John.",
    ),
    (
        "Henry VIII, World War II and Chapter IV",
        "Henry the eighth, World War two and Chapter four",
    ),
    (
        "He lives in the U.S. The end, e.g. of AT&T, etc.",
        "He lives in the U S. The end, for example of AT and T, et cetera.",
    ),
    (
        "COVID-19, MP3s, the A380 and 5G",
        "COVID-nineteen, MP threes, the A three eighty and five G",
    ),
    (
        "1,234,567 people in 2005, 1200 sheep and 2024 reasons",
        "One million two hundred thirty four thousand five hundred sixty seven people in two thousand five, "
        "twelve hundred sheep and two thousand twenty four reasons",
    ),
    (
        "Pi is 3.14159, and 007 is James.",
        "Pi is three point one four one five nine, and zero zero seven is James.",
    ),
    (
        "5 + 3 = 8, 10^6, x² and ~5",
        "Five plus three equals eight, ten to the power of six, x squared and about five",
    ),
    (
        "Apples, etc. Note that etc. is short.",
        "Apples, et cetera. Note that et cetera is short.",
    ),
    (
        "It rained. 50 people left.",
        "It rained. Fifty people left.",
    ),
    (
        "①, ½ and ٣",
        "One, one half and three",
    ),
    (
        "Scores: 10/10, 7/10, 99/100, 10/12, 31/12, 51/2 and 20/20.",
        "Scores: ten out of ten, seven out of ten, ninety nine out of one hundred, ten twelfths, thirty one twelfths, "
        "fifty one halves and twenty twenty.",
    ),
    (
        "5½, 5 1/2, 5-1/2, 2/3rds, 1/3rd and 3/10ths",
        "Five and a half, five and a half, five and a half, two thirds, one third and three tenths",
    ),
    (
        "Open 5-6 pm, 9am–5pm, 4 - 5:30 p.m. or 10:00-11:00.",
        "Open five to six p m, nine a m to five p m, four to five thirty p m or ten o'clock to eleven o'clock.",
    ),
    (
        "It is 00:30, 00:05 or 00:00 on -5 °C nights; at 16:30 -5 °C.",
        "It is zero thirty, zero oh five or midnight on minus five degrees Celsius nights; at sixteen thirty minus "
        "five degrees Celsius.",
    ),
    (
        "At £3.50/kg, $2.50/kg, 20 €/h and $5/month.",
        "At three pounds and fifty pence per kilogram, two dollars and fifty cents per kilogram, twenty euros per "
        "hour and five dollars per month.",
    ),
    (
        "10^-3, 10^−3, 3×10^8 and x^2",
        "Ten to the power of minus three, ten to the power of minus three, three times ten to the power of eight and "
        "x to the power of two",
    ),
    (
        "1 000 000, 1\u202f250, 12\u00a0345.5, 12 345 678, $25 000 or 1 000-2 000 of them",
        "One million, one thousand two hundred fifty, twelve thousand three hundred forty five point five, twelve "
        "million three hundred forty five thousand six hundred seventy eight, twenty five thousand dollars or one "
        "thousand to two thousand of them",
    ),
    (
        "In 2020 100 people called 555 123 4567 or 1 800 555 1234.",
        "In twenty twenty one hundred people called five five five, one two three, four five six seven or one, eight "
        "zero zero, five five five, one two three four.",
    ),
    (
        "1.5M users, 2M people, 10k followers, 3bn and 7B parameters",
        "One point five million users, two million people, ten thousand followers, three billion and seven billion "
        "parameters",
    ),
    (
        "A 7B model at 3M makes 4K videos in 5B.",
        "A seven B model at three M makes four K videos in five B.",
    ),
    (
        "Sept. 2021, Sept 2021, Oct. 2022 and Dec, 2023",
        "September twenty twenty one, September twenty twenty one, October twenty twenty two and December, twenty "
        "twenty three",
    ),
]

CHINESE = {
    "今天是2024年3月4日，下午7:30。": "今天是二零二四年三月四日，下午七点三十分。",
    "他付了¥1,250.50买了12kg苹果。": "他付了一千二百五十点五元买了十二千克苹果。",
    "会议在2024-03-04 19:30开始。": "会议在二零二四年三月四日 十九点三十分开始。",
    "我的电话是13812345678。": "我的电话是幺三八幺二三四五六七八。",
    "价格增长了12.5%，共有1,234,567人。": "价格增长了百分之十二点五，共有一百二十三万四千五百六十七人。",
    "温度是-5°C，有20~30人。": "温度是负五摄氏度，有二十到三十人。",
    "比分是3:2，他得了第1名。": "比分是三比二，他得了第一名。",
    "他买了２个苹果，花了３．５元。": "他买了两个苹果，花了三点五元。",
    "80年代，1/2的人每小时走5公里。": "八十年代，二分之一的人每小时走五公里。",
    "iPhone 15卖$100，￥99也行。": "iPhone 十五卖一百美元，九十九元也行。",
}

JAPANESE = {
    "今日は2024年3月4日です。": "今日は二千二十四年三月四日です。",
    "午後7時30分に3人で会いましょう。": "午後七時三十分に三人で会いましょう。",
    "12kgのリンゴは1,250円です。": "十二キログラムのリンゴは千二百五十円です。",
    "気温は20°C、湿度は50%です。": "気温は摂氏二十度、湿度は五十パーセントです。",
    "電話は03-1234-5678です。": "電話はゼロ三の一二三四の五六七八です。",
    "円周率は約3.14、0.5は半分です。": "円周率は約三点一四、零点五は半分です。",
    "3分の1は1/3です。": "三分の一は三分の一です。",
    "１００ドルは$100です。": "百ドルは百ドルです。",
}

PAGE = """It was the best of times, it was the worst of times — it was the age of wisdom; it was the age of foolishness.
"Don't you think so?" Mr. Jones asked. 'I do,' she said, "and we'll see that Mrs. O'Brien's dog isn't harmed..."

I'm sure they've got it (haven't they?). Well-known facts aren't always true: and/or naïve cafés – résumés!
In May the march began. No one can say so. You may sit in. She came first, he came second; figs and fig trees.
NASA and the FBI agreed; “Who's there?” … ‘Nobody,’ he said. I am. US or them? At noon we met; am I late?
"""


@pytest.mark.parametrize(("written", "spoken"), ENGLISH)
def test_english(written, spoken):
    assert normalize(written, "en") == spoken
    assert normalize(spoken, "en") == spoken


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [("zh", *pair) for pair in CHINESE.items()] + [("ja", *pair) for pair in JAPANESE.items()],
)
def test_chinese_and_japanese(language, written, spoken):
    pytest.importorskip("wetext", reason="the extra `normalize` is not installed")
    assert normalize(written, language) == spoken
    assert normalize(spoken, language) == spoken


def test_plain_english_is_unchanged():
    assert normalize(PAGE) == PAGE
    assert normalize(PAGE, "en-GB") == PAGE


def test_language_is_guessed():
    assert normalize("I have 3 apples.") == "I have three apples."
    assert normalize("Ich habe 3 Äpfel und das ist nicht schlecht.") == "Ich habe 3 Äpfel und das ist nicht schlecht."


@pytest.mark.parametrize("language", ["de", "ko", "fr-FR", "xx"])
def test_other_languages_are_unchanged(language):
    assert not can_normalize(language)
    assert not needs_extra(language)
    assert normalize("3,50 €", language) == "3,50 €"


def test_english_needs_no_extra():
    assert can_normalize("en")
    assert can_normalize("en_US")
    assert not needs_extra("en-GB")


@pytest.mark.parametrize("language", ["zh", "zh-CN", "ja_JP"])
def test_chinese_and_japanese_without_the_extra_are_unchanged(monkeypatch, language):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "wetext", raising=False)
    assert needs_extra(language)
    assert not can_normalize(language)
    assert normalize("第3名", language) == "第3名"


@pytest.mark.parametrize("language", ["zh", "zh-CN", "ja_JP"])
def test_chinese_and_japanese_with_the_extra(language):
    pytest.importorskip("wetext", reason="the extra `normalize` is not installed")
    assert not needs_extra(language)
    assert can_normalize(language)


@pytest.mark.parametrize("paragraphs", [1, 3, 200])
def test_a_paragraph_without_figures_changes_nothing_around_it(paragraphs):
    written = "\n\n".join(["No figures here, Dr. Who.", "He has 5.", "5 left."] * paragraphs)
    spoken = "\n\n".join(["No figures here, Doctor Who.", "He has five.", "Five left."] * paragraphs)
    assert normalize(written, "en") == spoken


CODES = st.text("0123456789" * 2 + ".,:/-–+%$€£#°'\"’ \nkmgsthpaxXIVvDr.w№½²①Aé…(=&@<>≤*·^√±~℃º′″⁻⁶CRT", max_size=40)


@settings(max_examples=400, deadline=None)
@given(CODES)
def test_no_digit_is_left_and_again_changes_nothing(text):
    spoken = normalize(text, "en")
    assert not any(character.isdigit() for character in spoken)
    assert not any(character.isdigit() for character in normalize(spoken, "en"))


@settings(max_examples=150, deadline=None)
@given(
    st.text('0123456789.,:/-~%年月日点時円元人第￥¥$°C kgA。，\n\\"“１２哈', max_size=30), st.sampled_from(["zh", "ja"])
)
def test_no_digit_is_left_in_characters(text, language):
    pytest.importorskip("wetext", reason="the extra `normalize` is not installed")
    assert not any(digit in normalize(text, language) for digit in "0123456789")


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "1,111,",
        "1.1",
        "1-",
        "Aa ",
        "a.",
        "http://!",
        "a@",
        "12 St. ",
        "A.",
        "½",
        "5 kg ",
        "1 ",
        "1 000 ",
        "1/",
        "1am-",
        "1^",
        "√1",
        "2 + ",
        '1" ',
        "$1-",
        "€1,",
        "1h1m",
        "II, ",
        "May 5 to ",
        "call 911 or ",
        "\n\n1",
    ],
)
def test_time_is_linear(unit):
    text = unit * (20_000 // len(unit))
    started = time.process_time()
    normalize(text, "en")
    assert time.process_time() - started < 5  # up to 0.5 s; a quadratic rule takes half a minute


def test_numerals():
    assert cardinal(1_000_021) == "one million twenty one"
    assert ordinal(112) == "one hundred twelfth"
    assert ordinal(40) == "fortieth"
    assert [in_pairs(value) for value in (747, 1900, 1905, 2000, 2010)] == [
        "seven forty seven",
        "nineteen hundred",
        "nineteen oh five",
        "two thousand",
        "twenty ten",
    ]
    assert [roman(written) for written in ("IV", "VIII", "XXXVII", "XLIX", "MCMXCIX")] == [4, 8, 37, 49, 1999]
    assert number(".5") == "point five"
    assert number("9" * 5000).startswith("nine nine nine")
