"""Texts for property tests: words, marks, spaces and graphemes of many scripts, in any order."""

from hypothesis import strategies as st

_PARTS = (
    *("a", "word", "Word ", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u2029", "\u3000", "\u00a0", "\f"),
    *(". ", ".", "? ", "!", ", ", "...", "…", "… ", "—", ": ", "#", "- ", "\n- ", "\n2. ", "1. ", "* "),
    *("“", "”", '"', "(", ") ", "'", "¿", "«", "»", " » ", "「", "」", "He said. ", "“Why?” he "),
    *("Mr. ", "e.g. ", "U.S. ", "J. ", "3.14", "1,250.50", "5 kg", "$3 ", "https://a.b/c?d=e. "),
    *("你好", "。", "，", "！", "日本語は", "ー", "สวัสดี", "한국어", "हिन्दी", "।", "؟ ", "، ", "e\u0301", "\u0301"),
    *("👨\u200d👩\u200d👧", "🇩🇪", "\u1112\u1161\u11ab", "\u200d"),
)
TEXTS = st.lists(st.sampled_from(_PARTS), max_size=60).map("".join) | st.text(
    st.characters(exclude_categories=("Cs", "Cc")), max_size=120
)
