"""`fish decode`: codes to audio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command, in_old_spelling
from fishcli.cli.pipes import readable
from fishcli.errors import SettingError


@command(app)
def decode(
    ctx: typer.Context,
    model: options.CodecOptions,
    codes: Annotated[list[Path], typer.Argument(metavar="CODES...", help="Codes from encode or generate (.npy).")],
    output: Annotated[
        Path | None, options.output_option(".wav .flac .mp3 .ogg .opus", "out.wav, then out-1.wav, ...")
    ] = None,
    subtype: Annotated[str | None, options.subtype_option()] = None,
) -> None:
    """Decode codes into audio.

    Examples:
      fish generate "Thank you for coming."
      fish decode codes_0.npy
      fish decode codes_0.npy -o exact.wav --subtype FLOAT
    """
    from fishcli import audio
    from fishcli.cli import inputs, outputs

    if len(codes) > 1 and output:
        raise SettingError("-o needs exactly one CODES file; without it each one is written to the next free out.wav.")
    if output is None and in_old_spelling(ctx) and len(codes) == 1:
        output = Path("fake.wav")  # the documentation's name
    files = outputs.samples(output, Path("out.wav"), len(codes))
    outputs.check(files, codes)
    outputs.check_sound(files, subtype)
    outputs.check_writable_all(files)
    engine = model.load()
    done = []
    signals.clean_up(saves=str(output) != "-")
    for path, file in zip(codes, files, strict=True):
        with readable(path, audio.MAX_BYTES) as source:
            given = inputs.read_codes(engine, source)
        with audio.Encoder(outputs.target(file), engine.sample_rate, subtype=subtype) as out:
            for samples in engine.decode(given):
                out.write(samples)
        signals.saved()
        console.saved(str(file), out.seconds)
        done.append({"input": str(path), "output": str(file), "seconds": round(out.seconds, 3)})
    console.result({"files": done})
