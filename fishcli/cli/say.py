"""`fish say`: text to sound."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console, options
from fishcli.cli.app import app, command
from fishcli.errors import SettingError
from fishcli.files import next_free

if TYPE_CHECKING:
    from fishcli.audio import Writer
    from fishcli.engine import Engine
    from fishcli.playback import Player


@command(app)
def say(
    text: options.TextOptions,
    speech: options.SpeakingOptions,
    model: options.ModelOptions,
    ref: Annotated[
        list[Path] | None,
        typer.Option(
            help="A recording of the voice, or its codes (.npy); may be repeated.",
            rich_help_panel=options.VOICE,
            metavar="AUDIO",
        ),
    ] = None,
    ref_text: Annotated[
        list[str] | None,
        typer.Option(
            help="The words said in it, one for each; else NAME.lab or NAME.txt beside it.",
            rich_help_panel=options.VOICE,
            metavar="TEXT",
        ),
    ] = None,
    output: Annotated[Path | None, options.output_option("The sound file (.wav .flac .mp3 .ogg .opus).")] = None,
    subtype: Annotated[str | None, options.setting("subtype", options.OUTPUT)] = None,
    play: Annotated[bool, options.setting("say.play", options.OUTPUT, off=True)] = options.default("say.play"),
    dry_run: Annotated[bool, options.dry_run_option()] = False,
) -> None:
    """Speak a text, in the voice of a recording if you have one.

    [cyan]fish say "Hello, world!"[/cyan]
    [cyan]fish say "Hello, world!" --ref paimon.wav --ref-text "What is said in it" -o hello.mp3[/cyan]
    [cyan]fish say --file chapter.txt --play[/cyan]
    """
    from fishcli.cli import inputs, speaking
    from fishcli.text import split

    words = inputs.words(text, speech.language)
    outputs = _outputs(output, speech.num_samples, play)
    inputs.check_outputs(outputs, [*(ref or []), text.file])
    inputs.check_sound(outputs, subtype)
    if dry_run:
        speaking.show_chunks(split(words, speech.chunk_length, speech.language), outputs)
        return
    engine = model.load()
    request = speech.request(words, inputs.references(engine, ref or [], ref_text or [], "--ref-text"))
    inputs.check_language(engine, words)
    with console.status("loading"):
        chunks = engine.speak(request)
    with contextlib.ExitStack() as stack:
        sinks = _sinks(stack, engine, outputs, subtype, play)
        progress = stack.enter_context(speaking.Speaking(engine, request))
        for chunk in chunks:
            progress.saw(chunk)
            for sink in sinks[chunk.sample]:
                sink.write(chunk.samples)
    speaking.report(progress.figures(), request, outputs)


def _outputs(output: Path | None, samples: int, play: bool) -> list[Path]:
    """One file for each sample; `-` is stdout; none when the speech is only played."""
    if samples > 1 and (play or str(output) == "-"):
        raise SettingError(f"--num-samples {samples} makes several results; give -o FILE, without --play.")
    if output is None:
        return [] if play else next_free(Path("out.wav"), samples)
    return [output] if samples == 1 else [output.with_stem(f"{output.stem}_{i}") for i in range(samples)]


def _sinks(
    stack: contextlib.ExitStack, engine: Engine, outputs: list[Path], subtype: str | None, play: bool
) -> list[list[Writer | Player]]:
    """Where the sound of each sample goes."""
    from fishcli.audio import Writer
    from fishcli.playback import Player

    rate = engine.sample_rate
    sinks: list[list[Writer | Player]] = [[] for _ in range(max(1, len(outputs)))]
    for i, path in enumerate(outputs):
        target = sys.stdout.buffer if str(path) == "-" else path
        sinks[i].append(stack.enter_context(Writer(target, rate, subtype=subtype)))
    if play:
        sinks[0].append(stack.enter_context(Player(rate)))
    return sinks
