"""`fish say`: text to sound."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import options, signals
from fishcli.cli.app import app, command
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from fishcli.audio import Encoder
    from fishcli.audio.playback import Player
    from fishcli.cli.outputs import Output
    from fishcli.cli.progress import Progress
    from fishcli.cli.remote import Speaker, SpokenStream
    from fishcli.engine import AudioStream, Engine
    from fishcli.jobs.takes import TakeStream
    from fishcli.request import Request


@command(app)
def say(
    ctx: typer.Context,
    text: options.TextOptions,
    speech: options.SpeakingOptions,
    voice: options.VoiceOptions,
    model: options.ModelOptions,
    server: options.ServerOptions,
    output: Annotated[
        Path | None, options.output_option(".wav .flac .mp3 .ogg .opus", "out.wav, then out-1.wav, ...")
    ] = None,
    subtype: Annotated[str | None, options.subtype_option()] = None,
    play: Annotated[bool, options.setting("say.play", options.OUTPUT, off=True)] = options.default("say.play"),
    force: Annotated[bool, options.force_option()] = False,
    dry_run: Annotated[bool, options.dry_run_option()] = False,
) -> None:
    """Speak a text, in the voice of a recording or of the library if you like.

    Examples:
      fish say "Thank you for coming."
      fish say "Thank you for coming." -o thanks.wav
      fish say "See you soon." --ref thanks.wav --ref-text "Thank you for coming."
      echo "From a pipe." | fish say --play
    """
    from fishcli.audio.playback import require_player
    from fishcli.cli import inputs, outputs, progress, remote

    source = inputs.source(text)
    script = inputs.prepare(source, text, speech)
    files = _files(output, subtype, speech.num_samples, play, force)
    outputs.check(files, [*(voice.ref or []), text.file])
    if dry_run:
        progress.show_chunks(script, outputs.paths(files))
        return
    outputs.check_writable_all(files)
    if play:
        require_player()
    streamed, typed = play or output == Path("-"), options.typed(ctx, options.ModelOptions)
    judge = speech.judge(script.language)
    order = remote.Order(source, script, text, speech, voice, model, server, streamed, typed, judge)
    engine, request, stream = order.start()
    inputs.check_language(engine, script.language)
    voice.check(engine)
    signals.clean_up(saves=bool(files) and str(output) != "-")
    seen = written(engine, request, stream, files, subtype, play)
    progress.report(seen, request, outputs.paths(files), engine.model.name)


def written(
    engine: Engine | Speaker,
    request: Request,
    stream: AudioStream | SpokenStream | TakeStream,
    files: list[Output],
    subtype: str | None = None,
    play: bool = False,
) -> Progress:
    """Write each sample of a stream to its file, or play it. Return what was seen of it."""
    from fishcli.cli import progress

    with contextlib.ExitStack() as stack:
        stack.enter_context(stream)
        sinks = _sinks(stack, engine.sample_rate, files, subtype, play)
        seen = stack.enter_context(progress.Progress(engine, request, stream))
        for chunk in stream:
            seen.saw(chunk)
            for sink in sinks[chunk.sample]:
                sink.write(chunk.samples)
    signals.saved()
    return seen


def _files(output: Path | None, subtype: str | None, samples: int, play: bool, force: bool) -> list[Output]:
    """One file for each sample; `-` is stdout; none when the speech is only played."""
    from fishcli.cli import outputs

    if samples > 1 and (play or str(output) == "-"):
        raise SettingError(f"--num-samples {samples} makes several results; give -o FILE, without --play.")
    if output is None and play:
        return []
    default = Path("out.wav")
    outputs.check_sound([output or default], subtype)
    return outputs.samples(output, default, samples, force)


def _sinks(
    stack: contextlib.ExitStack, rate: int, files: list[Output], subtype: str | None, play: bool
) -> list[list[Encoder | Player]]:
    """Return the files and players that each sample is written to."""
    from fishcli.audio import Encoder
    from fishcli.audio.playback import Player
    from fishcli.cli import outputs

    sinks: list[list[Encoder | Player]] = [[] for _ in range(max(1, len(files)))]
    if play:  # the first to be entered and so the last to end: the files are safe when it fails there
        sinks[0].append(stack.enter_context(Player(rate)))
    for sample, path in zip(sinks, files, strict=bool(files)):
        sample.append(stack.enter_context(Encoder(outputs.target(path), rate, subtype=subtype)))
    return sinks
