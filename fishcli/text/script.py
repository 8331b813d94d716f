"""A text prepared for speech, once: the dry run, the progress bar and the engine read the same chunks."""

from fishcli.request import Script, Span
from fishcli.text.chunks import CHUNK_BYTES, split
from fishcli.text.cleaning import check, check_speakable, finished, seconds
from fishcli.text.language import guess_language
from fishcli.text.language_codes import check_language
from fishcli.text.lines import end_lines, join_wrapped
from fishcli.text.markup import plain
from fishcli.text.normalize import normalize as written_out
from fishcli.text.signs import drop_pictographs, without_quotes


def prepare(text: str, chunk_length: int = CHUNK_BYTES, language: str | None = None, normalize: bool = True) -> Script:
    """Return the script of a text: checked, cleaned, written out if the language has rules, cut into chunks.

    A chunk has at most `chunk_length` UTF-8 bytes, and its terminal mark may exceed them. Without `language` it is
    guessed. `normalize` cleans and writes out; without, chunks still get their terminal mark. Raises InputError for a
    text that cannot be spoken (see `check`), SettingError for a chunk length below 1 and for an unknown language.
    """
    check_language(language)
    text = check(text)
    if normalize:
        text = readable(text)
        check_speakable(text)
    spoken_language = language or guess_language(text)
    if normalize:
        text = end_lines(written_out(text, spoken_language))
    # `language`, not the guess above: it was made from digits and signs that are words by now.
    text, spans = finished_chunks(text, chunk_length, language, normalize)
    return Script(text, tuple(spans), spoken_language, sum(seconds(span.text) for span in spans))


def readable(text: str, column: int = 0) -> str:
    """Return the words of a text: no markup, no pictographs, no wrapped lines. It starts at `column` of its line."""
    return join_wrapped(drop_pictographs(plain(text)), column).strip()


def finished_chunks(text: str, chunk_length: int, language: str | None, quiet: bool) -> tuple[str, list[Span]]:
    """Return the text as it is spoken and its chunks, each with a terminal mark; `quiet` drops quotation marks."""
    spans = split(text, chunk_length, language)
    if quiet:  # after the split, which keeps “Why?” he asked. together
        text, spans = without_quotes(text, spans)
    return text, [span._replace(text=finished(span.text)) for span in spans]
