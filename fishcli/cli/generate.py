"""`fish generate`: text to codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fishcli.cli import console, options, signals
from fishcli.cli.app import app, command

if TYPE_CHECKING:
    from fishcli.cli.progress import Progress
    from fishcli.engine import AudioStream, FrameStream
    from fishcli.jobs.takes import TakeStream
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
    """Speak a text as codes (codes_0.npy, codes_1.npy, ...).

    Examples:
      fish generate "Thank you for coming."
      fish generate "Thank you for coming." --num-samples 2 --output-dir codes
      fish decode codes/codes_1.npy
    """
    from fishcli.audio import codes
    from fishcli.cli import inputs, outputs, progress
    from fishcli.files import report_write_errors
    from fishcli.jobs import takes

    script = inputs.script(text, speech)
    files = outputs.codes(output_dir, speech.num_samples)
    outputs.check(files, [*(voice.ref or []), text.file])
    if dry_run:
        progress.show_chunks(script, files)
        return
    with report_write_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    outputs.check_writable_all(files)
    sources = inputs.sources(voice, voice.voice)
    judge = speech.judge(script.language)
    engine = model.load()
    request = speech.request(engine, script, inputs.references(engine, sources), streamed=False)
    inputs.check_language(engine, script.language)
    voice.check(engine)
    with console.status("Loading the model"):
        codec = engine.codec_id  # now, for what cannot be loaded should not cost the codes
        stream = takes.speak(engine, request, judge) if judge else engine.generate(request)
    signals.clean_up(saves=True)
    with stream, outputs.replacing(files):
        with progress.Progress(engine, request, stream) as seen:
            made = _collected(stream, seen, request.num_samples)
        for path, sample in zip(files, made, strict=True):
            codes.write(path, sample, codec)
    signals.saved()
    progress.report(seen, request, files, engine.model.name)


def _collected(stream: FrameStream | AudioStream | TakeStream, seen: Progress, samples: int) -> list[Codes]:
    """Return the codes (K, T) of each sample, while `seen` follows their frames."""
    import numpy as np

    pieces: list[list[Codes]] = [[] for _ in range(samples)]
    for frame in stream:
        seen.saw(frame)
        pieces[frame.sample].append(frame.codes)
    return [np.concatenate(each, axis=1) for each in pieces]
