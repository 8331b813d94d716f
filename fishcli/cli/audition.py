"""`fish voices audition` and `freeze`: find a voice without a recording, and keep it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console, options, signals
from fishcli.cli.app import command
from fishcli.cli.voices import DryRun, Language, NewName, home, keep
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAMPLES = 6


@dataclass(frozen=True)
class AuditionOptions(options.SpeakingOptions):
    """The parameters of the speech, of several voices by default."""

    num_samples: Annotated[int, options.setting("generate.num_samples", options.SPEAKING)] = _SAMPLES


@command(home)
def audition(
    text: options.TextOptions,
    speech: AuditionOptions,
    model: options.ModelOptions,
    play: Annotated[bool, typer.Option("--play", help="Play them, too.", rich_help_panel=options.OUTPUT)] = False,
    dry_run: Annotated[bool, options.dry_run_option()] = False,
) -> None:
    """Hear voices without a recording: a text in several of them (audition-1.wav, ...).

    Examples:
      fish voices audition "Thank you for coming." --num-samples 2
      fish voices freeze anna audition-2.wav
      fish say "See you soon." --voice anna
    """
    from fishcli.audio.playback import require_player
    from fishcli.cli import inputs, outputs, progress, say
    from fishcli.files import NextFree

    script = inputs.script(text, speech)
    files: list[outputs.Output] = [*NextFree.choose(lambda n: Path(f"audition-{n}.wav"), speech.num_samples, 1)]
    if dry_run:
        progress.show_chunks(script, outputs.paths(files))
        return
    outputs.check_writable_all(files)
    if play:
        require_player()
    engine = model.load()
    request = speech.request(engine, script, (), streamed=False)
    inputs.check_language(engine, script.language)
    with console.status("Loading the model"):
        stream = engine.speak(request)
    signals.clean_up(saves=True)
    seen = say.written(engine, request, stream, files)
    said = " ".join(span.text for span in script.spans)
    for path in outputs.paths(files):
        outputs.put(path.with_suffix(".lab"), f"{said}\n".encode())
    progress.report(seen, request, outputs.paths(files), engine.model.name)
    if play:
        _play(outputs.paths(files), engine.sample_rate)
    console.note(f"Keep the one you like: fish voices freeze NAME {outputs.paths(files)[0]}")


def _play(paths: Sequence[Path], rate: int) -> None:
    """Play files one after the other, each named when it starts."""
    from fishcli import audio
    from fishcli.audio.playback import Player

    for path in paths:
        console.note(f"Playing {path}")
        with Player(rate) as player:
            player.write(audio.read(path, rate))


@command(home)
def freeze(
    name: NewName,
    recording: Annotated[Path, typer.Argument(metavar="AUDIO", help="The sample you like, such as audition-1.wav.")],
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            help="What is said in it.",
            show_default="AUDIO.lab",
            metavar="TEXT",
            rich_help_panel=options.VOICE,
        ),
    ] = None,
    language: Language = None,
    dry_run: DryRun = False,
) -> None:
    """Keep a sample that you like as a voice: its sound and its text.

    Examples:
      fish voices audition "Thank you for coming." --num-samples 2
      fish voices freeze anna audition-2.wav
    """
    from fishcli.cli import inputs

    said = text or inputs.beside(recording)
    if not said and recording.exists():
        raise SettingError(f"{recording} has no text beside it; pass --text, what is said in it.")
    keep(name, [recording], [said], language, True, dry_run)
