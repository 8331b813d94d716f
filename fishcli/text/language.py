"""Language detection, for chunking, normalisation and the warning that a voice does not speak the language."""

import regex

_SAMPLE = 5000  # characters at the start of the text
_SCRIPTS = {
    "ko": "Hangul", "ar": "Arabic", "ru": "Cyrillic", "hi": "Devanagari", "th": "Thai",
    "el": "Greek", "he": "Hebrew", "bn": "Bengali", "ta": "Tamil", "te": "Telugu", "hy": "Armenian", "ka": "Georgian",
    "am": "Ethiopic", "km": "Khmer", "my": "Myanmar", "lo": "Lao", "gu": "Gujarati", "pa": "Gurmukhi", "kn": "Kannada",
    "ml": "Malayalam", "si": "Sinhala", "bo": "Tibetan",
}  # fmt: skip
_BY_SCRIPT = {code: regex.compile(rf"\p{{{script}}}[\p{{{script}}}\p{{M}}]*") for code, script in _SCRIPTS.items()}
_BY_SCRIPT |= {"zh": regex.compile(r"\p{Han}"), "ja": regex.compile(r"[\p{Hiragana}\p{Katakana}]")}
_ADDRESS = regex.compile(r"\S+[@/]\S+")
_LATIN_WORDS = regex.compile(r"\p{Latin}[\p{Latin}\p{M}]*(?:['’]\p{Latin}+)*")
_FREQUENT = {
    code: frozenset(words.split())
    for code, words in {
        "en": "the of and to in is that it for was with as his on be at by i this had not are but from or have an they "
        "which one you were all her she there would their we him been has when who will no more if out so said what up "
        "its about than into them can only other time new some could these two may first then do any like my now over "
        "such our me even most made after did many before must hello please thank yes a it's don't i'm how where why "
        "your he am good morning does us very here see go get just know let",
        "de": "der das und ist nicht ein eine einen mit auf für ich sie wir zu im von auch wie sich dem den es bei "
        "nach sind wird haben hallo welt guten tag morgen danke bitte sehr über aber oder heute dass kann hat wenn",
        "fr": "le la les des du et est une un dans pour pas que qui sur avec vous nous je il elle ne au ce cette mais "
        "bonjour monde merci être très c'est d'un j'ai où aujourd'hui ça sont plus tout comme",
        "es": "el la los las y es un una en de del que por para con no se su al lo como más pero hola mundo gracias "
        "buenos días está muy cómo yo qué mi son hoy este esta",
        "it": "il la gli le di che è un una per con non si del della sono ciao mondo grazie molto questo come anche "
        "oggi buongiorno ma io più nel alla ho",
        "pt": "o os as um uma de do da que é não para com em por se no na mais como mas olá mundo obrigado bom dia "
        "muito está eu você isso são hoje ao",
        "nl": "de het een en van is niet dat op te zijn met voor ik je hij wij ook maar als aan er hallo wereld dank "
        "goede morgen heel wat naar bij deze",
        "pl": "i w nie na się jest to z że do jak ale za co tak dzień dobry świat cześć dziękuję ja ty jego dla są",
        "sv": "och att det är som en på jag inte av för med han den till har du hej världen tack mycket ett vi var",
        "tr": "bir ve bu da de için ne çok o ile gibi ben sen merhaba dünya teşekkürler değil var güzel bugün",
        "vi": "là và của không có một tôi bạn được người này cho trong đã xin chào cảm ơn thế giới rất",
        "id": "yang dan di ini itu tidak untuk dengan saya anda ada dari akan halo dunia terima kasih selamat pagi",
    }.items()
}


def guess_language(text: str) -> str:
    """Return the ISO 639-1 code of the most likely language, "en" in doubt.

    The script with the most words decides (characters, in scripts without spaces); kana among Chinese characters mean
    Japanese. A dozen languages in Latin script are recognised by their most frequent words: one of them needs at least
    two different words of its list in the text, and more than English has. So a text with a few foreign names stays
    English, as does one in a language without a list.
    """
    sample = _ADDRESS.sub("", text[:_SAMPLE])
    counts = {code: len(pattern.findall(sample)) for code, pattern in _BY_SCRIPT.items()}
    words = [word.lower().replace("’", "'") for word in _LATIN_WORDS.findall(sample)]
    if counts["ja"] * 10 > counts["zh"]:
        counts["ja"] += counts["zh"]
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] > len(words) else _guess_latin(frozenset(words), sample)


def _guess_latin(words: frozenset[str], sample: str) -> str:
    if "¿" in sample or "¡" in sample:
        return "es"
    hits = {code: len(words & frequent) for code, frequent in _FREQUENT.items()}
    best = max(hits, key=hits.__getitem__)  # English is first and wins a tie
    return best if hits[best] >= 2 else "en"
