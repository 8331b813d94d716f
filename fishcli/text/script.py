"""A text prepared for speech, once: the dry run, the progress bar and the engine read the same chunks."""

from dataclasses import dataclass

from fishcli.request import Span
from fishcli.text.chunks import CHUNK_BYTES, split
from fishcli.text.cleaning import check, finished, seconds
from fishcli.text.language import guess_language
from fishcli.text.normalize import normalize as written_out


@dataclass(frozen=True)
class Script:
    """A text as it will be spoken: normalised, and cut into chunks.

    `text` is the text after normalisation. `spans` are its chunks in order, each with a terminal mark, which `text`
    itself may lack; their positions count characters of `text`. `language` is an ISO 639-1 code, given or guessed.
    """

    text: str
    spans: tuple[Span, ...]
    language: str

    @property
    def seconds(self) -> float:
        """The expected duration of the speech, in seconds."""
        return sum(seconds(span.text) for span in self.spans)


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
    return Script(text, tuple(spans), spoken_language)
