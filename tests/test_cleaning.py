"""What of a written text is spoken: marks at the end, quotation marks, markup, pictographs, lines."""

import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import MARKED_TEXTS, TEXTS, letters

from fishcli.errors import InputError
from fishcli.text import IncrementalScript, clean, finished, prepare, speakable

LONG = (
    "At the end of the lane stood a row of tall poplars, and behind them the river ran slowly past the mill with its "
    "two great wheels, which had not turned for as long as anyone in the village could remember"
)


def said(text, **options):
    return [span.text for span in prepare(text, **options).spans]


ENDS = [
    ("Hi", "Hi."), ("Hi.", "Hi."), ("Hi!", "Hi!"), ("Why?", "Why?"), ("No. 5", "No. 5."), ("你好", "你好。"),
    ("です", "です。"), ("नमस्ते", "नमस्ते।"), ("Привет", "Привет."), ("", ""), ("...", "..."),
    ("and,", "and."), ("Shopping list:", "Shopping list."), ("Hi;", "Hi."), ("Hi -", "Hi."), ("Hi —", "Hi."),
    ("Hi–", "Hi."), ("well:--", "well."), ("Hi, ", "Hi."), ("Why?,", "Why?"), ("Hi /", "Hi."), ("Hi ~", "Hi."),
    ("(Hi)", "(Hi)."), ("(Hi.)", "(Hi.)"), ("[Hi!]", "[Hi!]"), ("(Hi,)", "(Hi)."), ('"Hi"', '"Hi".'),
    ("“Hi.”", "“Hi.”"), ("“Hi,”", "“Hi”."), ("“Why?”", "“Why?”"), ("«Hi»", "«Hi»."), ("Hi 😀", "Hi."),
    ("Hi. 😀", "Hi."), ("Hi!❤️", "Hi!"), ("Hi™", "Hi."), ("Wait…", "Wait..."), ("“Wait…”", "“Wait...”"),
    ("Wait...", "Wait..."), ("等等……", "等等..."), ("5%", "5%."), ("C++", "C++."), ("C#", "C#."), ("20°", "20°."),
    ("5 €", "5 €."), ("dogs'", "dogs'."), ("你好，", "你好。"), ("清单：", "清单。"), ("「うん。」", "「うん。」"),
    ("iPhone，", "iPhone。"), ("مرحبا،", "مرحبا."), ("كيف؟", "كيف؟"), ("Τι κάνεις;", "Τι κάνεις;"), ("বাংলা", "বাংলা।"),
    ("Բարեւ", "Բարեւ։"), ("สวัสดี", "สวัสดี."), ("안녕", "안녕."), ("e.g.,", "e.g."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "ended"), ENDS)
def test_a_chunk_ends_in_a_terminal_mark(text, ended):
    assert finished(text) == ended
    assert finished(ended) == ended


@pytest.mark.parametrize("normalized", [True, False])
def test_a_piece_of_a_long_sentence_ends_in_a_terminal_mark(normalized):
    chunks = said(LONG, normalize=normalized)
    assert len(chunks) == 2
    assert chunks[0].endswith((" poplars.", " mill with its two great wheels."))
    assert chunks[1].endswith(" remember.")


SILENT = {
    "quotation marks": [
        ('"Thanks for coming."', "Thanks for coming."),
        ("“Where are you going?”", "Where are you going?"),
        ('She said "no" to him.', "She said no to him."),
        ("“Why?” he asked. “Home.”", "Why? he asked. Home."),
        ("'I don't know,' he said.", "I don't know, he said."),
        ("‘Thanks for coming.’", "Thanks for coming."),
        ("The dogs' tails and rock 'n' roll, it’s John’s.", "The dogs' tails and rock n roll, it's John's."),
        ("„Guten Tag“, sagte er und ging.", "Guten Tag, sagte er und ging."),
        ("« Bonjour ! » dit-elle.", "Bonjour ! dit-elle."),
        ("»Nein«, sagte er.", "Nein, sagte er."),
        ("他说：“你好。”然后走了。", "他说：你好。然后走了。"),
        ("「行くの？」と聞いた。", "行くの？と聞いた。"),
        ("我在看《红楼梦》。", "我在看红楼梦。"),
        ("``Hello,'' he said.", "Hello, he said."),
        ('He said"no"again.', "He said no again."),
        ("—Hola —dijo ella.", "Hola —dijo ella."),
    ],
    "brackets around a sentence": [
        ("(Hi)", "Hi."),
        ("It rained. (It poured.) Then", "It rained. It poured. Then."),
        ("He left (at last).", "He left (at last)."),
        ("He left (at last.)", "He left (at last.)"),
    ],
    "pictographs": [
        ("Hi 😀", "Hi."),
        ("Great job 🤣.", "Great job."),
        ("🧠 Think first.", "Think first."),
        ("Done ✅ and out ❤️", "Done and out."),
        ("Great😀job", "Great job."),
        ("A family 👨‍👩‍👧 and a flag 🇩🇪!", "A family and a flag!"),
        ("Good 👍🏽, yes 🥳🥳🥳", "Good, yes."),
        ("London → Paris", "London Paris."),
        ("London -> Paris", "London Paris."),
        ("Hi :-) there ;)", "Hi there."),
        ("Hi™", "Hi."),
        ("Acme® makes it, © Acme.", "Acme makes it, Acme."),
        ("Really⁉", "Really?"),
        ("Take 1️⃣ now", "Take one now."),
        ("soft\u00adhyphen and zero\u200bwidth", "softhyphen and zerowidth."),
        ("★★★ Nice place ★", "Nice place."),
        ("你好😀", "你好。"),
        ("نماز می‌خوانم", "نماز می‌خوانم."),
    ],
    "Markdown": [
        ("This is **bold** text.", "This is bold text."),
        ("**Hi**", "Hi."),
        ("***Very* important**", "Very important."),
        ("An _italic_ and a __bold__ word, not snake_case.", "An italic and a bold word, not snake_case."),
        ("It is ~~wrong~~ ==marked== `code`.", "It is wrong marked code."),
        ("Read [the link](https://example.com/a) now.", "Read the link now."),
        ("See [a page](https://en.wikipedia.org/wiki/Foo_(bar) \"Title\").", "See a page."),
        ("![A cat](cat.png) sleeps.", "A cat sleeps."),
        ("See [the docs][1] for more.\n\n[1]: https://example.com", "See the docs for more."),
        ("Write to <joe@example.com>.", "Write to joe at example dot com."),
        ("# Title\nIt was dark.", "Title. It was dark."),
        ("## Title ##\n\nIt was dark.", ["Title.", "It was dark."]),
        ("Title\n=====\nIt was dark.", "Title. It was dark."),
        ("### Results", "Results."),
        ("- Buy milk\n- Call mom", "Buy milk, Call mom."),
        ("* Buy milk for the children and eggs\n* [x] Call mom", "Buy milk for the children and eggs. Call mom."),
        ("1. Open the door.\n2) Close it", "One. Open the door. Two. Close it."),
        ("> Quoted text\n> goes on here.", "Quoted text goes on here."),
        ("One.\n\n---\n\nTwo.", ["One.", "Two."]),
        ("| Name | Age |\n|------|----:|\n| Ann | old |", "Name, Age, Ann, old."),
        ("```python\nprint hello\n```\nDone.", "print hello. Done."),
        ("I like #music and C# too.", "I like music and C sharp too."),
        ("A \\*star\\* here.", "A star here."),
        ("Visit https://a.com/x_y_z now.", "Visit a dot com slash x underscore y underscore z now."),
        ("Fill in ____ here.", "Fill in here."),
        ("a | b", "a b."),
    ],
    "HTML": [
        ("<p>Hello</p>", "Hello."),
        ("<p>One</p><p>It was a long and dark night here</p>", "One. It was a long and dark night here."),
        ("One<br>Two<br/>It was a long and dark night", "One, Two. It was a long and dark night."),
        ("<ul><li>Milk</li><li>Eggs</li></ul>", "Milk, Eggs."),
        ("<b>Bold</b> and <span class='x'>plain</span> text.", "Bold and plain text."),
        ("<h1>Title</h1>It was a long and dark night.", "Title. It was a long and dark night."),
        ("AT&amp;T is big.", "AT and T is big."),
        ("It&#39;s here, it&amp;#39;s &quot;there&quot;.", "It's here, it's there."),
        ("Fish&nbsp;&amp;&nbsp;chips&hellip; are &lt;b&gt;good&lt;/b&gt;.", "Fish and chips… are good."),
        ("So 5 < 6 and AT&T", "So five is less than six and AT and T."),
        ("Dear <name>, hi.", "Dear name, hi."),
        ("<!-- hidden --><script>var a = 1;</script>Shown.", "Shown."),
        ("<think>Well</think> yes.", "Well yes."),
        ("a <b and c> d", "a <b and c> d."),
    ],
    "footnote marks": [
        ("The sky is blue.[2][3] It is.", "The sky is blue. It is."),
        ("The sky is blue.² It is.", "The sky is blue. It is."),
        ("The sky is blue[12], said he.[a]", "The sky is blue, said he."),
        ("The author[s] left.", "The author[s] left."),
        ("The sky is blue.[^1]\n\n[^1]: Or grey.", ["The sky is blue.", "Or grey."]),
        ("The sky† is blue‡.", "The sky is blue."),
        ("A claim[citation needed] is here.", "A claim is here."),
        ("A room of 20 m²", "A room of twenty square meters."),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "spoken"), [case for cases in SILENT.values() for case in cases])
def test_what_makes_no_sound(text, spoken):
    assert said(text) == ([spoken] if isinstance(spoken, str) else spoken)


WRAPPED = (
    "It was the best of times, it was the worst of times, it was the age of\n"
    "wisdom, it was the age of foolishness, it was the epoch of belief, and\n"
    "Charles said that it was the season of Light. It was the spring of hope\n"
    "for us all."
)
LINES = {
    "fruits": ("There are four fruits:\nApple\nBanana", ["There are four fruits: Apple, Banana."]),
    "a heading": ("Chapter One\nIt was a dark, wet night.", ["Chapter One. It was a dark, wet night."]),
    "a heading over wrapped lines": (f"The Best of Times\n{WRAPPED}", None),
    "a verse": (
        "So long as men can breathe or eyes can see\nSo long lives this and this gives life to thee",
        ["So long as men can breathe or eyes can see. So long lives this and this gives life to thee."],
    ),
    "a verse with commas": ("Tyger Tyger, burning,\nIn the forests", ["Tyger Tyger, burning, In the forests."]),
    "a list in lower case": ("milk\neggs\nbread", ["milk, eggs, bread."]),
    "narrow prose": ("It was a cold\nday in April. It rained.", ["It was a cold day in April. It rained."]),
    "a hyphen at the end": ("It is a well-\nknown fact here.", ["It is a well-known fact here."]),
    "a letter": ("Dear Sam,\nThank you for the book.\nYours\nAnn", ["Dear Sam, Thank you for the book. Yours, Ann."]),
    "Chinese lines": ("床前明月光\n疑是地上霜", ["床前明月光，疑是地上霜。"]),
    "wrapped Chinese": (
        "今天天气很好我们一起去公园散步吧然后去吃饭最后再一\n起回家睡觉。",
        ["今天天气很好我们一起去公园散步吧然后去吃饭最后再一起回家睡觉。"],
    ),
    "returns": ("Milk\r\nEggs\rBread", ["Milk, Eggs, Bread."]),
    "a blank line": ("Title\n\nText", ["Title.", "Text."]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "chunks"), LINES.values(), ids=LINES)
def test_lines(text, chunks):
    if chunks is None:
        chunks = ["The Best of Times. " + WRAPPED.replace("\n", " ")]
    assert said(text, chunk_length=1000) == chunks


@pytest.mark.parametrize("width", [50, 60, 70, 80])
def test_prose_wrapped_at_a_width_is_spoken_as_one_paragraph(width):
    text = " ".join(WRAPPED.split())
    assert said("\n".join(textwrap.wrap(text, width)), chunk_length=1000) == [text]


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("# Title\nIt was dark. And ", ["Title.", "It was dark."]),
        ("Buy this:\n- Milk\n- Eggs\n\nDone. So ", ["Buy this.", "Milk.", "Eggs.", "Done."]),
        ("**Hello.** Next one. So ", ["Hello.", "Next one."]),
        ('"Thanks." she said. <b>Hi</b> &amp; bye. So ', ["Thanks. she said.", "Hi and bye."]),
        ("Great! 😀 Next one. So ", ["Great!", "Next one."]),
        ("The sky is blue.[2] It is. So ", ["The sky is blue.", "It is."]),
        ("Read [the link](https://a.b/c). Then so. And ", ["Read the link.", "Then so."]),
    ],
)
def test_text_that_arrives_over_time(text, chunks):
    assert [span.text for span in IncrementalScript().feed(text)] == chunks


def test_wrapped_text_that_arrives_over_time():
    spoken = [span.text for span in IncrementalScript(1000).feed(WRAPPED + " So ")]
    assert " ".join(spoken) == " ".join(WRAPPED.split())


@pytest.mark.parametrize(
    "text",
    [
        "He plays Op. 27, No. 2 of them. ",
        "Tel. 5 is mine. ",
        "It has 8 lbs. 3 oz. in it. ",
        "Use max. 5 of them. ",
        "Meet me on Mon. 5 March. ",
    ],
)
def test_an_abbreviation_before_a_number_ends_no_sentence_that_arrives(text):
    assert len(IncrementalScript().feed(f"{text}So ")) == 1


@pytest.mark.parametrize("text", ["<br>", "[](https://a.com)", "[1]: https://a.com", "---", "** **", "&#8203;"])
def test_markup_alone_is_nothing_to_speak(text):
    with pytest.raises(InputError, match="nothing to speak"):
        prepare(text)
    script = IncrementalScript()
    assert script.feed(text) + script.close() == []


@settings(max_examples=500, deadline=None)
@given(MARKED_TEXTS, st.sampled_from([5, 60, 200]), st.sampled_from(["en", "de", "ja"]))
def test_a_chunk_is_what_the_model_gets_and_ends(text, limit, language):
    try:
        script = prepare(text, limit, language)
    except InputError:
        return
    for span in script.spans:
        assert clean(span.text) == span.text
        assert finished(span.text) == span.text
        assert not set(span.text) & set('"“”«»「」`😀→')
        assert letters(script.text[span.start : span.end]) == letters(span.text)


@settings(max_examples=300, deadline=None)
@given(TEXTS.filter(lambda text: not set(text) & set("<&[|`")))
def test_no_letter_is_lost_without_markup(text):
    try:
        script = prepare(text, language="de")
    except InputError:
        assert not speakable(text)
        return
    assert [c for c in letters(script.text) if c.isalpha()] == [c for c in letters(text) if c.isalpha()]


@pytest.mark.parametrize(
    "unit",
    [
        "<", "*", "[", "&", '"', "'", "_", "`", "|", "#", "(", "<a ", "<!--", "<script>", "[a](", "[a][", "==", "\\",
        "😀", " ", "&#", "&a", "<a b=", "‘a", "> ", "- ", "\n", "a\n", "~", "^", "http://", "@", "a@", "[1]", "\u200d",
        "* ", "]", "](", "“a ", "#x ", "[^1]", "(a", "。", "¹",
    ],
)  # fmt: skip
def test_time_is_linear(unit):
    text = "a" + unit * (50_000 // len(unit)) + "a"
    started = time.process_time()
    prepare(text, language="de")
    assert time.process_time() - started < 15  # 0.1 to 0.7 s; a quadratic step takes minutes
