"""`fish client`: have a server speak."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fishcli.cli import completers, console, options, signals
from fishcli.cli.app import app, command
from fishcli.errors import SettingError

if TYPE_CHECKING:
    from fishcli.cli.outputs import Output
    from fishcli.client.request import Recording, SpeechRequest

SERVER = "Server"
_FORMATS = {"wav": ".wav", "pcm": ".pcm", "mp3": ".mp3", "opus": ".opus .ogg", "flac": ".flac"}


@dataclass(frozen=True)
class AskingOptions:
    """The parameters of the speech. The hidden options are those of the documentation's client."""

    seed: Annotated[int | None, options.setting("generate.seed", options.SPEAKING)] = None
    temperature: Annotated[float | None, options.setting("generate.temperature", options.SPEAKING)] = None
    top_p: Annotated[float | None, options.setting("generate.top_p", options.SPEAKING)] = None
    repetition_penalty: Annotated[float | None, options.setting("generate.repetition_penalty", options.SPEAKING)] = None
    max_new_tokens: Annotated[int, options.setting("generate.max_new_tokens", options.SPEAKING)] = options.default(
        "generate.max_new_tokens"
    )
    chunk_length: Annotated[int, options.setting("generate.chunk_length", options.TEXT, "BYTES")] = options.default(
        "generate.chunk_length"
    )
    language: Annotated[str | None, options.setting("language", options.TEXT, "CODE")] = None
    latency: Annotated[str | None, typer.Option("--latency", hidden=True)] = None
    use_memory_cache: Annotated[str | None, typer.Option("--use-memory-cache", hidden=True)] = None
    channels: Annotated[int, typer.Option("--channels", hidden=True, min=1, max=2)] = 1
    rate: Annotated[int, typer.Option("--rate", hidden=True, min=8000, max=192_000)] = 44_100

    def request(self, source: str, normalize: bool, recordings: tuple[Recording, ...], **given: Any) -> SpeechRequest:
        """Return the request; without a seed one is drawn, so that it can be shown."""
        from fishcli.client.request import SpeechRequest
        from fishcli.request import draw_seed

        known = dataclasses.asdict(self)
        seed = draw_seed() if self.seed is None else self.seed
        del known["channels"], known["rate"]
        return SpeechRequest(source, normalize=normalize, references=recordings, **known | given | {"seed": seed})


@dataclass(frozen=True)
class RecordingOptions(options.ReferenceOptions):
    """The references: recordings of the voice."""

    ref: Annotated[
        list[Path] | None,
        typer.Option(
            "--ref",
            help="Recording of the voice; repeatable.",
            rich_help_panel=options.VOICE,
            metavar="FILE",
            is_eager=True,
        ),
    ] = None


@dataclass(frozen=True)
class SoundOptions:
    """The audio, its file and its playback."""

    output: Annotated[
        Path | None, options.output_option(".wav .pcm .mp3 .opus .flac", "out.wav, then out-1.wav, ...")
    ] = None
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Audio format: wav, pcm, mp3, opus or flac.",
            show_default="that of -o, else wav",
            rich_help_panel=options.OUTPUT,
            metavar="NAME",
            autocompletion=lambda incomplete: [name for name in _FORMATS if name.startswith(incomplete)],
        ),
    ] = None
    stream: Annotated[
        bool, typer.Option("--stream/--no-stream", help="Receive while it is made.", rich_help_panel=options.OUTPUT)
    ] = False
    play: Annotated[
        bool, typer.Option("--play/--no-play", help="Play while it is received.", rich_help_panel=options.OUTPUT)
    ] = False


def _voice(ctx: typer.Context, value: str | None) -> str | None:
    """Leave out the voice of the settings where --ref is typed; a server takes both if both are."""
    source = ctx.get_parameter_source("voice")
    typed = source is not None and source.name == "COMMANDLINE"
    return value if typed or not ctx.params.get("ref") else None


@command(app)
def client(
    text: options.TextOptions,
    speech: AskingOptions,
    reference: RecordingOptions,
    sound: SoundOptions,
    url: Annotated[str, options.setting("client.url", SERVER, "URL")] = options.default("client.url"),
    api_key_file: Annotated[Path | None, options.api_key_option(panel=SERVER)] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", hidden=True)] = None,
    voice: Annotated[
        str | None,
        typer.Option(
            "--voice",
            help="Name of a voice of the server.",
            rich_help_panel=options.VOICE,
            metavar="NAME",
            callback=_voice,
            autocompletion=completers.voices,
        ),
    ] = None,
    dry_run: Annotated[bool, options.dry_run_option("Show what would be asked only.")] = False,
) -> None:
    """Have a server speak: ours, or another one with the API of Fish Speech.

    Examples:
      fish client "Thank you for coming."
      fish client "Thank you for coming." --stream --play -o thanks.wav
      fish client "See you soon." --ref thanks.wav --ref-text "Thank you for coming."
      fish client "See you soon." --url http://192.168.1.20:8080 --voice anna -o soon.mp3
    """
    from fishcli.audio.playback import require_player
    from fishcli.cli import inputs, keys, outputs, receiving

    source = inputs.source(text)
    kind = _format(sound.format, sound.output)
    files = _files(sound, kind)
    outputs.check(files, [*(reference.ref or []), text.file])
    if dry_run:
        _show(source, url, outputs.paths(files))
        return
    outputs.check_writable_all(files)
    if sound.play:
        require_player()
    recordings = inputs.recordings(inputs.sources(reference))
    request = speech.request(
        source, text.normalize, recordings, voice=voice, format=kind, streaming=sound.stream or None
    )
    key = keys.typed(api_key) or keys.api_key(api_key_file)
    signals.clean_up(saves=bool(files) and str(sound.output) != "-")
    receiver = receiving.Receiver(kind, speech.rate, speech.channels)
    with contextlib.ExitStack() as players:  # the file is safe before the last of it has been heard
        with contextlib.ExitStack() as sinks:
            receiver.open(sinks, players if sound.play else None, files)
            receiver.receive(url, key, request)
        signals.saved()
        receiver.report(files, request)


def _files(sound: SoundOptions, kind: str) -> list[Output]:
    """Return the file of the sound, none where it is only played. Raises SettingError if it cannot be played."""
    from fishcli.cli import outputs

    if sound.play and kind not in ("wav", "pcm"):
        raise SettingError(f"--play plays wav and pcm while they come, not {kind}; leave out --play or --format.")
    if sound.play and sound.output is None:
        return []
    return outputs.samples(_named(sound.output, kind), Path(f"out{_suffix(kind)}"), 1)


def _format(given: str | None, output: Path | None) -> str:
    """Return the format that was named, else that of the suffix. Raises SettingError where they contradict."""
    from fishcli.files import is_special

    suffix = output.suffix.lower() if output and str(output) != "-" and not is_special(output) else ""
    by_suffix = next((name for name, suffixes in _FORMATS.items() if suffix in suffixes.split()), None)
    if given is not None and given not in _FORMATS:
        raise SettingError(f"--format must be one of {', '.join(_FORMATS)}, not {given!r:.40}.")
    if given and suffix and by_suffix != given:
        raise SettingError(f"{output} does not end as --format {given} does; leave one of them out.")
    if suffix and by_suffix is None:
        raise SettingError(f"{output} has no known audio format; use one of {' '.join(_FORMATS.values())}.")
    return given or by_suffix or "wav"


def _suffix(kind: str) -> str:
    return _FORMATS[kind].split()[0]


def _named(output: Path | None, kind: str) -> Path | None:
    """Return the output with a suffix, which that of the documentation's client lacks."""
    from fishcli.files import is_special

    if output is None or output.suffix or str(output) == "-" or is_special(output):
        return output
    return output.with_suffix(_suffix(kind))


def _show(source: str, url: str, files: list[Path]) -> None:
    """Show what would be asked, and where the answer would go."""
    where = f"for {files[0]}" if files else "to play"
    console.note(f"{len(source)} characters for {url}, {where}.")
    console.result({"url": url, "text": source, "outputs": [str(path) for path in files]})
