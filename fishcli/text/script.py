"""A text prepared for speech, once: the dry run, the progress bar and the engine read the same chunks."""

from fishcli.request import Script
from fishcli.text.chunks import CHUNK_BYTES, split
from fishcli.text.cleaning import check, finished, seconds
from fishcli.text.language import guess_language
from fishcli.text.normalize import normalize as written_out


def prepare(text: str, chunk_length: int = CHUNK_BYTES, language: str | None = None, normalize: bool = True) -> Script:
    """Return the script of a text: checked, normalised if the language has rules, cut into chunks.

    A chunk has at most `chunk_length` UTF-8 bytes, and its terminal mark may exceed them. Without `language` it is
    guessed. Raises InputError for a text that cannot be spoken (see `check`), SettingError for a chunk length below 1.
    """
    text = check(text)
    spoken_language = language or guess_language(text)
    if normalize:
        text = written_out(text, spoken_language)
    # `language`, not the guess above: it was made from digits and signs that are words by now.
    spans = [span._replace(text=finished(span.text)) for span in split(text, chunk_length, language)]
    return Script(text, tuple(spans), spoken_language, sum(seconds(span.text) for span in spans))
