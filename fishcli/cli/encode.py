"""`fish encode`: recordings to codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command, in_old_spelling
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from fishcli.engine import Engine


@command(app)
def encode(
    ctx: typer.Context,
    model: options.CodecOptions,
    recordings: Annotated[
        list[Path],
        typer.Argument(metavar="AUDIO...", help="Recordings, mono or stereo, at any rate; -: standard input."),
    ],
    output: Annotated[
        Path | None, options.output_option("Codes (.npy) of one recording", "AUDIO.npy in the working folder")
    ] = None,
    reconstruct: Annotated[
        Path | None,
        typer.Option(
            help="Also decode the codes, to hear their quality.",
            rich_help_panel=options.OUTPUT,
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Encode recordings into codes (.npy), which --ref accepts.

    Examples:
      fish say "Thank you for coming." -o thanks.wav
      fish encode thanks.wav
      fish encode thanks.wav -o codes.npy --reconstruct again.wav
    """
    from fishcli.cli import outputs

    if len(recordings) > 1 and (output or reconstruct):
        raise SettingError("-o and --reconstruct need exactly one recording; without them each becomes NAME.npy.")
    files = [output or outputs.codes_of(path, in_old_spelling(ctx)) for path in recordings]
    again = [reconstruct] if reconstruct else []
    outputs.check([*files, *again], recordings)
    outputs.check_codes(files)
    outputs.check_sound(again)
    outputs.check_writable_all([*files, *again])
    engine = model.load()
    signals.clean_up(saves=str(output) != "-")
    with outputs.replacing([] if output else files):
        done = [_encode(engine, path, file, reconstruct) for path, file in zip(recordings, files, strict=True)]
    if engine.model.built_in:
        console.note("These codes fit the built-in voice only.")
    console.result({"files": done})


def _encode(engine: Engine, recording: Path, file: Path, reconstruct: Path | None) -> dict[str, object]:
    """Write the codes of a recording, and the audio that they give. Return the entry of the result."""
    from fishcli import audio
    from fishcli.audio import codes
    from fishcli.cli import inputs, outputs

    encoded = inputs.encoded(engine, recording)
    codes.write(outputs.target(file), encoded, engine.codec_id)
    signals.saved()
    frames, seconds = encoded.shape[1], encoded.shape[1] / engine.frame_rate
    console.saved(file, seconds)
    if reconstruct:
        with audio.Encoder(outputs.target(reconstruct), engine.sample_rate) as out:
            for samples in engine.decode(encoded):
                out.write(samples)
    return {"input": str(recording), "output": str(file), "frames": frames, "seconds": round(seconds, 3)}
