"""`fish encode`: recordings to codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command, in_old_spelling
from fishcli.cli.pipes import is_stream
from fishcli.errors import SettingError


@command(app)
def encode(
    ctx: typer.Context,
    model: options.ModelOptions,
    recordings: Annotated[
        list[Path], typer.Argument(metavar="AUDIO...", help="Recordings, mono or stereo, at any rate.")
    ],
    output: Annotated[Path | None, options.output_option("The file for the codes (.npy), with one recording.")] = None,
    reconstruct: Annotated[
        Path | None,
        typer.Option(
            help="Also decode the codes, to hear their quality.", rich_help_panel=options.OUTPUT, metavar="FILE"
        ),
    ] = None,
) -> None:
    """Encode recordings into codes: (8, T) int16 in NAME.npy, which --ref accepts.

    [cyan]fish encode paimon.wav[/cyan]
    [cyan]fish encode paimon.wav -o fake.npy --reconstruct paimon-again.wav[/cyan]
    [cyan]fish encode voices/*.wav[/cyan]
    """
    from fishcli import audio
    from fishcli.audio import codes
    from fishcli.cli import inputs, outputs

    if len(recordings) > 1 and (output or reconstruct):
        raise SettingError("-o and --reconstruct need exactly one recording; without them each becomes NAME.npy.")
    files = [output or _name(path, in_old_spelling(ctx)) for path in recordings]
    again = [reconstruct] if reconstruct else []
    outputs.check([*files, *again], recordings)
    outputs.check_codes(files)
    outputs.check_sound(again)
    engine = inputs.codec_engine(model)
    done = []
    signals.clean_up()
    for path, file in zip(recordings, files, strict=True):
        encoded = inputs.encoded(engine, path)
        codes.write(outputs.target(file), encoded, engine.codec_id)
        seconds = encoded.shape[1] / engine.frame_rate
        console.note(f"{path}: {seconds:.1f} s, codes {encoded.shape} -> {file}")
        done.append({"input": str(path), "output": str(file), "frames": encoded.shape[1], "seconds": round(seconds, 3)})
        for sound in again:
            with audio.Encoder(outputs.target(sound), engine.sample_rate) as out:
                for samples in engine.decode(encoded):
                    out.write(samples)
    if engine.model.built_in:
        console.note("These codes fit the built-in voice only.")
    console.result({"files": done})


def _name(recording: Path, old: bool) -> Path:
    """Return the codes file of a recording: as the documentation expects it after `-i`, else of the same name."""
    if old:
        return Path("fake.npy")
    return Path("stdin.npy" if is_stream(recording) else f"{recording.stem}.npy")
