"""Markup: HTML and Markdown, as web pages and language models write them, become plain lines.

The words stay, and so does the order of the letters. What was an address, a tag or a mark of layout goes. A line that
the markup ends (a heading, an item of a list, a row of a table, `<br>`) ends in U+2028, which `lines` never joins to
the next one. All patterns are linear: no repetition crosses the character that starts it.
"""

import html

import regex
from regex import Match

LINE_END = "\u2028"

_ENTITY = regex.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_CONTROL = regex.compile(r"[\p{Cc}\p{Cs}--[\t\n]]", regex.V1)


def plain(text: str) -> str:
    """Return the text without HTML and Markdown.

    Without markup it stays as it is, but for line ends (`\\r\\n` is `\\n`).
    """
    text = regex.sub(r"\r\n?", "\n", text)
    text = _decoded(_decoded(text))  # twice: feeds often hold "&amp;#39;"
    return _without_markdown(_without_tags(text))


def _decoded(text: str) -> str:
    """Return the text with its entities as characters; one without a semicolon may be a word, as in "AT&T"."""
    return _ENTITY.sub(lambda entity: _CONTROL.sub("", html.unescape(entity[0])), text) if "&" in text else text


# HTML. A word in angle brackets is a tag if HTML has it, if it has attributes or if the text closes it: "Dear <name>"
# keeps its word, and "5 < 6" and "I <3 you" stay.

_BLOCKS = (
    "address article aside blockquote body br caption center dd div dl dt figcaption figure footer form h1 h2 h3 h4 h5 "
    "h6 head header hr html legend li main nav ol option p pre section select summary table tbody td tfoot th thead "
    "title tr ul"
)
_INLINE = (
    "a abbr audio b bdi bdo big button cite code data del details dfn em embed font i iframe img input ins kbd label "
    "link mark meta object picture q rp rt ruby s samp small source span strike strong sub sup svg time tt u var video "
    "wbr break emphasis phoneme prosody say-as speak voice"
)
_ENDS_LINE, _KNOWN = frozenset(_BLOCKS.split()), frozenset(_INLINE.split())
_HIDDEN = regex.compile(
    r"<!--(?:[^-<]|-(?!->)|<(?!!--))*+-->|<!doctype\b[^<>]*>"
    r"|<(script|style)\b[^<>]*+>(?:[^<]|<(?!/?(?:script|style)\b))*+</\1\s*>",
    regex.IGNORECASE,
)
_VALUE = r"""(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>=`]++)"""
_TAG = regex.compile(
    rf"<(?<close>/)?(?<name>[A-Za-z][\w:.-]*+)(?<attributes>(?:\s++[\w:@.-]++\s*+=\s*+{_VALUE})*+)"
    r"(?:\s++(?:async|autoplay|checked|controls|disabled|hidden|loop|muted|open|required|selected))*+\s*+(?<empty>/)?>"
)
_CLOSED = regex.compile(r"</([A-Za-z][\w:.-]*+)\s*+>")


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    text = _HIDDEN.sub(" ", text)
    closed = {name.lower() for name in _CLOSED.findall(text)}

    def sound(tag: Match[str]) -> str:
        name = tag["name"].lower()
        if name in ("td", "th"):
            return ", " * bool(tag["close"])
        if name in _ENDS_LINE:
            return LINE_END
        known = name in _KNOWN or name in closed or tag["close"] or tag["attributes"] or tag["empty"]
        return "" if known else tag["name"]

    return _TAG.sub(sound, text)


# Markdown, line by line and then inside the lines.

_FENCE = regex.compile(r"[ \t]*+(?:```|~~~)[^`\n]*+")
_RULE = regex.compile(r"[ \t]*+(?:[-*_=~+#•·—–][ \t]*+){3,}+")  # a horizontal rule, or the one below a heading
_TABLE_RULE = regex.compile(r"[ \t]*+\|?(?:[ \t]*+:?-++:?[ \t]*+\|)++(?:[ \t]*+:?-++:?[ \t]*+)?")
_DEFINITION = regex.compile(r"[ \t]{0,3}\[[^\[\]^\n]+\]:[ \t]+<?(?:https?://|www\.|/|#)\S*(?:[ \t]+[\"'(].*)?")
_QUOTED = regex.compile(r"[ \t]*(?:>[ \t]?)+(?!\s?[\d.$€£¥=])")
_HEADING = regex.compile(r"[ \t]*+#{1,6}[ \t]++")
_CLOSING_HASHES = regex.compile(r"(?<=\s)#++\Z")
_ITEM = regex.compile(r"[ \t]*(?:[-*•‣◦▪●–—]|\+(?![ \t]+\d)|(?P<number>\d{1,3})[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
_FOOTNOTE = regex.compile(r"[ \t]*\[\^[^\[\]\s]+\]:[ \t]*")


def _without_markdown(text: str) -> str:
    lines = regex.split(r"([\n\u2028])", text)
    ends = [*lines[1::2], ""]
    text = "".join(_line(line, end) for line, end in zip(lines[::2], ends, strict=True))
    return _inline(text)


def _line(line: str, end: str) -> str:
    """Return a line without the marks at its start, with U+2028 around it where it stands for itself."""
    line = _QUOTED.sub("", line, count=1) if line.lstrip()[:1] == ">" else line
    if any(pattern.fullmatch(line) for pattern in (_FENCE, _RULE, _TABLE_RULE, _DEFINITION)):
        return LINE_END
    if heading := _HEADING.match(line):
        return f"{LINE_END}{_CLOSING_HASHES.sub('', line[heading.end() :].rstrip())}{LINE_END}{end}"
    if line.count("|") > 1 or line.lstrip()[:1] == "|":
        cells = filter(None, (cell.strip() for cell in line.split("|")))
        return f"{LINE_END}{', '.join(cells)}{LINE_END}{end}"
    line = _FOOTNOTE.sub(LINE_END, line, count=1) if "[^" in line else line
    if item := _ITEM.match(line):
        number = f"{item['number']}. " if item["number"] else ""
        return f"{LINE_END}{number}{line[item.end() :]}{end}"
    return line + end


_CITED = r"(?:\d{1,3}(?:[,–-]\s?\d{1,3})*|(?<=[.,;:!?”\"]\[)\p{Ll}|note \d{1,3}|citation needed|edit)"
_LINKS = (
    (
        r"!?\[((?:[^\[\]\n]|\[[^\[\]\n]{0,200}+\]){0,1000}+)\]"
        r"\([^()\s]{0,2000}+(?:\([^()\s]{0,200}+\)[^()\s]{0,2000}+)?(?:\s[^()\n]{0,200}+)?\)",
        r"\1",
    ),
    (rf"\[(?!{_CITED}\])([^\[\]\n]{{1,1000}}+)\]\[[^\[\]\n]{{0,200}}+\]", r"\1"),  # [text][reference]
    (r"<(?:mailto:)?((?:https?://|www\.)[^\s<>]++|[\w.+-]++@[\w.-]++)>", r"\1"),
)
_MARKS = (
    (r"(?:\[\^[^\[\]\s]{1,50}+\])++", ""),
    (rf"(?<=[\p{{L}}\p{{N}}\p{{P}}])(?:\[{_CITED}\])++", ""),
    # a raised number after a mark or a long word is a footnote; after "m" or "x" it is a power
    (r"(?<=[.,;:!?…\"”’。，！？；：」』]|\p{Ll}{5})[¹²³⁰⁴-⁹]++|(?<=[\w.,;:!?…])[†‡]++", ""),
    (r"(?<![\w&])#(?=\p{L})", ""),
    (r"(?<![\w=!<>])==(?=[^\s=])([^=\n]{1,500}+)==(?!=)", r"\1"),
    (r"~~|`++|(?<![\p{L}\p{N}])_++|_++(?![\p{L}\p{N}])", ""),
    (r"\\(?=[!-/:-@\[-`{-~])", ""),
    (r"(?<![\d)]|[\d)]\s)\*++|\*++(?!\s?[\d(])", ""),  # not the one of "2*3"
    (r"[^\S\n]?\|", " "),
)
_ANY_MARK = regex.compile(r"[\[#=~`_*\\|†‡¹²³⁰⁴-⁹]")
_ADDRESS = regex.compile(r"((?:https?://|www\.)[^\s<>*\"”|`\[\]]++|[^\s<>*\"”|`\[\]@]{1,64}+@[\w.-]++)")


def _inline(text: str) -> str:
    """Return the text without the marks inside its lines; those of an address stay."""
    text = _replaced(text, _LINKS)
    parts = _ADDRESS.split(text)
    parts[::2] = [_replaced(part, _MARKS) if _ANY_MARK.search(part) else part for part in parts[::2]]
    return "".join(parts)


def _replaced(text: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, words in rules:
        text = regex.sub(pattern, words, text)
    return text
