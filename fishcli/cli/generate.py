"""`fish generate`: text to codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command

if TYPE_CHECKING:
    from fishcli.request import Codes


@command(app)
def generate(
    text: options.TextOptions,
    speech: options.SpeakingOptions,
    voice: options.VoiceOptions,
    model: options.ModelOptions,
    output_dir: Annotated[Path, options.setting("generate.output_dir", options.OUTPUT, "DIR")] = Path(),
    dry_run: Annotated[bool, options.dry_run_option()] = False,
) -> None:
    """Speak a text as codes: codes_0.npy, codes_1.npy, ...

    [cyan]fish generate "Hello, world!"[/cyan]
    [cyan]fish generate "Hello, world!" --prompt-tokens fake.npy --prompt-text "What is said in it"[/cyan]
    [cyan]fish generate --file chapter.txt --num-samples 2 --seed 42 --output-dir codes[/cyan]
    """
    import numpy as np

    from fishcli.audio import codes
    from fishcli.cli import inputs, outputs, progress
    from fishcli.files import report_write_errors

    script = inputs.script(text, speech)
    files = [output_dir / f"codes_{i}.npy" for i in range(speech.num_samples)]
    outputs.check(files, [*(voice.ref or []), text.file])
    if dry_run:
        progress.show_chunks(script, files)
        return
    with report_write_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    engine = model.load()
    request = speech.request(script, inputs.references(engine, voice))
    inputs.check_language(engine, script.language)
    with console.status("loading"):
        codec = engine.codec_id  # now, for what cannot be loaded should not cost the codes
        stream = engine.generate(request)
    signals.clean_up()
    made: list[list[Codes]] = [[] for _ in range(request.num_samples)]
    with stream, progress.Progress(engine, request, script) as seen:
        for frame in stream:
            seen.saw(frame)
            made[frame.sample].append(frame.codes)
    for path, pieces in zip(files, made, strict=True):
        codes.write(path, np.concatenate(pieces, axis=1), codec)
    progress.report(seen.figures(), request, files)
