"""`fish say`: text to sound."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command
from fishcli.errors import SettingError
from fishcli.files import next_free

if TYPE_CHECKING:
    from fishcli.audio import Encoder
    from fishcli.audio.playback import Player
    from fishcli.engine import Engine


@command(app)
def say(
    text: options.TextOptions,
    speech: options.SpeakingOptions,
    voice: options.VoiceOptions,
    model: options.ModelOptions,
    output: Annotated[
        Path | None, options.output_option(".wav .flac .mp3 .ogg .opus", "out.wav, then out-1.wav, ...")
    ] = None,
    subtype: Annotated[str | None, options.subtype_option()] = None,
    play: Annotated[bool, options.setting("say.play", options.OUTPUT, off=True)] = options.default("say.play"),
    dry_run: Annotated[bool, options.dry_run_option()] = False,
) -> None:
    """Speak a text, in the voice of a recording if you have one.

    Examples:
      fish say "Thank you for coming."
      fish say "Thank you for coming." -o thanks.wav
      fish say "See you soon." --ref thanks.wav --ref-text "Thank you for coming."
      echo "From a pipe." | fish say --play
    """
    from fishcli.audio.playback import require_player
    from fishcli.cli import inputs, outputs, progress

    script = inputs.script(text, speech)
    files = _files(output, speech.num_samples, play)
    outputs.check(files, [*(voice.ref or []), text.file])
    outputs.check_sound(files, subtype)
    if dry_run:
        progress.show_chunks(script, files)
        return
    if play:
        require_player()
    engine = model.load()
    streamed = play or output == Path("-")
    request = speech.request(engine, script, inputs.references(engine, voice), streamed)
    inputs.check_language(engine, script.language)
    voice.check(engine)
    with console.status("Loading the model"):
        stream = engine.speak(request)
    signals.clean_up()
    with contextlib.ExitStack() as stack:
        stack.enter_context(stream)
        sinks = _sinks(stack, engine, files, subtype, play)
        seen = stack.enter_context(progress.Progress(engine, request, stream))
        for chunk in stream:
            seen.saw(chunk)
            for sink in sinks[chunk.sample]:
                sink.write(chunk.samples)
    progress.report(seen, request, files, engine.model.name)


def _files(output: Path | None, samples: int, play: bool) -> list[Path]:
    """One file for each sample; `-` is stdout; none when the speech is only played."""
    if samples > 1 and (play or str(output) == "-"):
        raise SettingError(f"--num-samples {samples} makes several results; give -o FILE, without --play.")
    if output is None:
        return [] if play else next_free(Path("out.wav"), samples)
    return [output, *(output.with_stem(f"{output.stem}-{i}") for i in range(1, samples))]


def _sinks(
    stack: contextlib.ExitStack, engine: Engine, files: list[Path], subtype: str | None, play: bool
) -> list[list[Encoder | Player]]:
    """Where the sound of each sample goes."""
    from fishcli.audio import Encoder
    from fishcli.audio.playback import Player
    from fishcli.cli import outputs

    rate = engine.sample_rate
    sinks: list[list[Encoder | Player]] = [[] for _ in range(max(1, len(files)))]
    if play:  # the first to be entered and so the last to end: the files are safe when it fails there
        sinks[0].append(stack.enter_context(Player(rate)))
    for sample, path in zip(sinks, files, strict=bool(files)):
        sample.append(stack.enter_context(Encoder(outputs.target(path), rate, subtype=subtype)))
    return sinks
