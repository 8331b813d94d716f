"""Texts for property tests: words, marks, spaces and graphemes of many scripts, in any order."""

from hypothesis import strategies as st

from fishcli.text import speakable

_PARTS = (
    *("a", "word", "Word ", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u2029", "\u3000", "\u00a0", "\f"),
    *(". ", ".", "? ", "!", ", ", "...", "…", "… ", "—", ": ", "#", "- ", "\n- ", "\n2. ", "1. ", "* "),
    *("“", "”", '"', "(", ") ", "'", "¿", "«", "»", " » ", "「", "」", "He said. ", "“Why?” he "),
    *("Mr. ", "e.g. ", "U.S. ", "J. ", "3.14", "1,250.50", "5 kg", "$3 ", "https://a.b/c?d=e. "),
    *("你好", "。", "，", "！", "日本語は", "ー", "สวัสดี", "한국어", "हिन्दी", "।", "؟ ", "، ", "e\u0301", "\u0301"),
    *("👨\u200d👩\u200d👧", "🇩🇪", "\u1112\u1161\u11ab", "\u200d"),
)
_MARKUP = (
    *("**", "*", "_", "`", "\n```\n", "\n# ", "\n## Title\n", "[text](https://a.b)", "[", "](", "[2]", "[^1]", "²"),
    *("<p>", "</p>", "<br>", "<b>", "<", ">", "&amp;", "&#39;", "&lt;", "&", "|", "\n| a | b |\n", "\n|---|---|\n"),
    *("\n> ", "==", "~~", "\\*", "😀", "→", "❤️", "™", "‘", "’", ":)", "<3", "\n---\n", "#tag "),
)
TEXTS = st.lists(st.sampled_from(_PARTS), max_size=60).map("".join) | st.text(
    st.characters(exclude_categories=("Cs", "Cc")), max_size=120
)
MARKED_TEXTS = st.lists(st.sampled_from(_PARTS + _MARKUP), max_size=60).map("".join) | TEXTS


def letters(text):
    """Return the text without spaces, marks and other silent characters."""
    return [character for character in text if speakable(character)]


def check_kept(text, spans):
    """Check that all that can be spoken lies in the spans, each of which has some, in order."""
    end = 0
    for span in spans:
        assert speakable(span.text), repr(text)
        assert not speakable(text[end : span.start]), repr(text)
        end = span.end
    assert not speakable(text[end:]), repr(text)
