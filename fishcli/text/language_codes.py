"""Codes of languages: ISO 639-1, with a region or not, such as "en", "zh-CN" and "pt_BR"."""

import difflib

import regex

from fishcli.errors import SettingError

_CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su "
    "sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
_LONGER = "ceb cmn fil gsw haw hmn kab kok mai mni nan nds sco wuu yue"  # languages without a code of two letters
_KNOWN = frozenset(f"{_CODES} {_LONGER}".split())
# The names and the longer codes by which people call a language.
_NAMES = {
    "ar": "arabic ara", "bg": "bulgarian bul", "bn": "bengali bangla ben", "ca": "catalan cat",
    "cs": "czech ces cze cz",
    "da": "danish dan dk", "de": "german deutsch deu ger", "el": "greek ell gre gr", "en": "english eng anglais",
    "es": "spanish español espanol castilian spa esp", "et": "estonian est", "eu": "basque eus baq",
    "fa": "persian farsi fas per", "fi": "finnish fin", "fr": "french français francais fra fre",
    "ga": "irish gle", "he": "hebrew heb iw", "hi": "hindi hin", "hr": "croatian hrv", "hu": "hungarian hun",
    "hy": "armenian hye arm", "id": "indonesian ind", "is": "icelandic isl ice", "it": "italian italiano ita",
    "ja": "japanese jpn jap jp", "ka": "georgian kat geo", "ko": "korean kor kr", "lt": "lithuanian lit",
    "lv": "latvian lav", "mk": "macedonian mkd", "ms": "malay msa", "nl": "dutch nederlands flemish nld dut",
    "no": "norwegian nor", "pl": "polish polski pol", "pt": "portuguese português portugues por",
    "ro": "romanian ron rum", "ru": "russian rus", "sk": "slovak slk slo", "sl": "slovenian slovene slv",
    "sq": "albanian sqi alb", "sr": "serbian srp", "sv": "swedish svenska swe", "sw": "swahili swa", "ta": "tamil tam",
    "te": "telugu tel", "th": "thai tha", "tr": "turkish türkçe turkce tur", "uk": "ukrainian ukr ua",
    "ur": "urdu urd", "vi": "vietnamese vie vn", "zh": "chinese mandarin zho chi cn",
}  # fmt: skip
_BY_NAME = {name: code for code, names in _NAMES.items() for name in names.split()}
_TAG = regex.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")


def check_language(language: str | None) -> None:
    """Raise SettingError, with the code that was meant, unless this is a language code or None (to be guessed)."""
    if language is None:
        return
    primary = primary_code(language)
    if _TAG.fullmatch(language) and primary in _KNOWN:
        return
    meant = _meant(primary)
    wanted = f"did you mean {meant!r}?" if meant else 'give two letters, such as "en" or "zh".'
    raise SettingError(f"{language!r} is not the code of a language; {wanted}", field="language")


def primary_code(language: str) -> str:
    """Return the primary subtag: "zh" of "zh-TW"."""
    return regex.split("[-_]", language.lower(), maxsplit=1)[0]


def _meant(written: str) -> str | None:
    near = difflib.get_close_matches(written.strip(), _BY_NAME, n=1, cutoff=0.75)
    return _BY_NAME[near[0]] if near else None
