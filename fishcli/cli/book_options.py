"""The options of `fish batch` for books and subtitles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.errors import SettingError

if TYPE_CHECKING:
    from fishcli.jobs.books import BookSettings
    from fishcli.jobs.lexicon import Lexicon

BOOK = "Book"


@dataclass(frozen=True)
class BookOptions:
    """How the lines of a book are put together, and what is written beside the sound."""

    one_file: Annotated[bool, typer.Option("--one-file", help="All chapters in one file.", rich_help_panel=BOOK)] = (
        False
    )
    speed: Annotated[
        float, typer.Option(help="Speed, 0.25 to 4.", metavar="X", rich_help_panel=BOOK, show_default=False)
    ] = 1.0
    loudness: Annotated[
        float | None, typer.Option(help="Loudness in LUFS, such as -18.", metavar="X", rich_help_panel=BOOK)
    ] = None
    paragraph_pause: Annotated[float, typer.Option(metavar="SECONDS", rich_help_panel=BOOK, hidden=True)] = 0.6
    heading_pause: Annotated[float, typer.Option(metavar="SECONDS", rich_help_panel=BOOK, hidden=True)] = 1.2
    chapter_pause: Annotated[float, typer.Option(metavar="SECONDS", rich_help_panel=BOOK, hidden=True)] = 2.0
    subtitles: Annotated[
        list[str] | None,
        typer.Option(help="Subtitles: srt, vtt or json; repeatable.", metavar="NAME", rich_help_panel=BOOK),
    ] = None
    lexicon: Annotated[
        Path | None,
        typer.Option(help="Words and respellings, .toml or .csv.", metavar="FILE", rich_help_panel=BOOK),
    ] = None

    def words(self) -> Lexicon | None:
        """Return the pronunciation dictionary. Raises InputError."""
        from fishcli.jobs.lexicon import Lexicon

        return None if self.lexicon is None else Lexicon.read(self.lexicon)

    def settings(self, format: str | None, is_book: bool) -> BookSettings:
        """Return the settings of a book, or those of the subtitles of lines. Raises SettingError."""
        from fishcli.jobs.books import BookSettings

        if not is_book and (self.one_file or self.speed != 1.0 or self.loudness is not None):
            raise SettingError("--one-file, --speed and --loudness are for books (.md, .epub); leave them out.")
        return BookSettings(
            format=(format or "flac") if is_book else "flac",
            one_file=self.one_file,
            paragraph_pause=self.paragraph_pause,
            heading_pause=self.heading_pause,
            chapter_pause=self.chapter_pause,
            speed=self.speed,
            loudness=self.loudness,
            subtitles=tuple(self.subtitles or ()),  # type: ignore[arg-type]  # BookSettings checks them
        )
