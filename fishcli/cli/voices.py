"""`fish voices`: the library of voices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fishcli.cli import completers, console, options, signals
from fishcli.cli.app import Commands, app, command

if TYPE_CHECKING:
    from fishcli.voices import Voice

home = typer.Typer(cls=Commands, rich_markup_mode=None)
app.add_typer(
    home,
    name="voices",
    help="""Keep voices, each a name for recordings and what is said in them.

    The folder references/NAME/ of the documentation, with *.wav and *.lab in it, is read as it is.

    Examples:
      fish say "Thank you for coming." -o thanks.wav
      fish voices add anna thanks.wav --text "Thank you for coming."
      fish say "See you soon." --voice anna
    """,
    short_help="Keep voices, each a name for recordings and what is said in them.",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a voice in the library.", autocompletion=completers.voices)
]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the new voice.")]
DryRun = Annotated[bool, options.dry_run_option("Show what would be done only.")]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        help="What is said in AUDIO; one for each.",
        show_default="AUDIO.lab or AUDIO.txt, else as heard",
        metavar="TEXT",
        rich_help_panel=options.VOICE,
    ),
]
Language = Annotated[str | None, options.setting("language", options.VOICE, "CODE")]


@command(home, "list")
def list_() -> None:
    """List the voices.

    Examples:
      fish voices list
      fish voices list --json
    """
    from fishcli.cli import library
    from fishcli.voices import Library

    known = Library.of_user().list()
    console.result({"voices": [library.as_dict(each) for each in known]})
    if console.flags.json:
        return
    width = max((len(each.name) for each in known), default=0)
    for each in known:
        console.listing(f"{each.name:{width}}  {_summary(each)}")
    if not known:
        console.note("There are no voices yet; `fish voices add NAME AUDIO` adds one.")


def _summary(voice: Voice) -> str:
    count, without = len(voice.recordings), sum(not each.text for each in voice.recordings)
    parts = [f"{count} recording{'' if count == 1 else 's'}"]
    parts += [f"{without} without a text"] if without else []
    parts += [voice.title] if voice.title != voice.name else []
    parts += [f"in {voice.folder.parent}"] if not voice.writable else []
    return ", ".join(parts)


@command(home)
def add(
    name: NewName,
    recordings: Annotated[list[Path], typer.Argument(metavar="AUDIO...", help="Recordings, 5 to 15 s each.")],
    text: Texts = None,
    language: Language = None,
    trim: Annotated[
        bool,
        typer.Option(
            "--trim/--no-trim",
            help="Keep the silence at both ends, and the file as it is.",
            rich_help_panel=options.VOICE,
        ),
    ] = True,
    dry_run: DryRun = False,
) -> None:
    """Check recordings and keep them as a voice, silence cut off.

    Examples:
      fish say "Thank you for coming." -o thanks.wav
      fish voices add anna thanks.wav --text "Thank you for coming."
    """
    keep(name, recordings, text or [], language, trim, dry_run)


def keep(name: str, recordings: list[Path], texts: list[str], language: str | None, trim: bool, dry_run: bool) -> None:
    """Add a voice to the library, and report the condition of its recordings."""
    from fishcli.cli import adding, library
    from fishcli.text import guess_language
    from fishcli.voices import Library

    known = Library.of_user()
    id = library.new_id(known, name)
    made = adding.checked(recordings, texts, language, trim)
    for each in made:
        each.report()
    entries = {"recordings": [each.as_dict() for each in made]}
    if dry_run:
        console.note(f"{name} would be added to {known.folder}.")
        console.result({"name": name, "path": str(known.folder), **entries})
        return
    signals.clean_up(saves=True)
    files, said = [each.data for each in made], [each.text for each in made]
    languages = [language] if language else sorted({guess_language(each) for each in said if each})
    voice = known.add(files, said, title=name, id=id, languages=languages)
    signals.saved()
    console.note(f"Added {name}; speak with it: --voice {_quoted(name)}")
    console.result({**library.as_dict(voice), **entries})


@command(home)
def show(name: Name) -> None:
    """Show a voice: its texts, where it lies, and on a terminal its waveform and pitch.

    Examples:
      fish voices show anna
    """
    from fishcli.cli import library, showing

    known, voice = library.find(name)
    shown = [showing.Shown(*each) for each in known.contents(voice)]
    console.result({**library.as_dict(voice), "recordings": [each.as_dict() for each in shown]})
    if console.flags.json:
        return
    console.listing(f"{voice.name}: {_summary(voice)}\n{library.path(voice)}")
    for each in shown:
        each.draw()


@command(home)
def play(name: Name) -> None:
    """Play the recordings of a voice.

    Examples:
      fish voices play anna
    """
    from fishcli import audio
    from fishcli.audio.playback import Player, require_player
    from fishcli.cli import adding, library
    from fishcli.voices import printable

    known, voice = library.find(name)
    require_player()
    sounds = [audio.read(data, adding.RATE, name=printable(each.name)) for each, data in known.contents(voice)]
    signals.clean_up()
    with Player(adding.RATE) as player:
        for samples in sounds:
            player.write(samples)
    seconds = sum(map(len, sounds)) / adding.RATE
    console.saved(None, seconds)
    console.result({"id": voice.id, "seconds": round(seconds, 3)})


@command(home)
def rename(
    name: Name, new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")], dry_run: DryRun = False
) -> None:
    """Give a voice another name.

    Examples:
      fish voices rename anna anne
    """
    from fishcli.cli import library

    known, voice = library.find(name)
    library.new_id(known, new)
    if dry_run:
        console.note(f"{voice.name} would become {new}.")
        console.result({"from": voice.name, "to": new})
        return
    signals.clean_up()
    renamed = known.rename(voice.id, new)
    console.note(f"{voice.name} is {renamed.name} now.")
    console.result(library.as_dict(renamed))


@command(home)
def rm(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names of voices.", autocompletion=completers.voices)
    ],
    dry_run: DryRun = False,
) -> None:
    """Remove voices, with their recordings.

    Examples:
      fish voices rm anna
    """
    from fishcli.cli import library

    found = [library.find(name) for name in dict.fromkeys(names)]  # all of them, before the first is removed
    signals.clean_up()
    for known, voice in found:
        if not dry_run:
            known.remove(voice.id)
        console.note(f"{'Would remove' if dry_run else 'Removed'} {voice.name} ({library.path(voice)}).")
    console.result({"removed": [] if dry_run else [voice.id for _, voice in found]})


@command(home)
def export(
    name: Name,
    output: Annotated[
        Path | None, options.output_option("One file with all of the voice", "NAME.zip, then NAME-1.zip, ...")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Write a voice to one file, for another machine.

    Examples:
      fish voices export anna
      fish voices export anna -o anna-backup.zip
    """
    from fishcli.cli import library, outputs
    from fishcli.voices import export_voice

    known, voice = library.find(name)
    files = outputs.samples(output, Path(f"{_file_name(voice)}.zip"), 1)
    outputs.check(files)
    data = export_voice(known, voice)
    if not dry_run:
        outputs.check_writable_all(files)
        signals.clean_up(saves=str(output) != "-")
        outputs.put(files[0], data)
        signals.saved()
    (path,) = outputs.paths(files)
    console.note(f"{'Would write' if dry_run else 'Saved'} {path} ({len(data) / 1000:,.0f} kB)")
    if str(path) != "-":
        console.result({"output": str(path), "bytes": len(data)})


@command(home, "import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `fish voices export` wrote; -: standard input.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Another name for it.", metavar="NAME", rich_help_panel=options.VOICE),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Add a voice that was exported, after verifying all of it.

    Examples:
      fish voices export anna
      fish voices import anna.zip --name anne
    """
    from fishcli.cli import library
    from fishcli.cli.pipes import readable
    from fishcli.files import open_regular
    from fishcli.voices import Library, read_export
    from fishcli.voices.exports import MAX_EXPORT

    with readable(file, MAX_EXPORT) as source, open_regular(source.path) as stream:
        found = read_export(stream.read(MAX_EXPORT + 1), source.name)
    known = Library.of_user()
    if name:
        found = found._replace(id=library.new_id(known, name), fields=found.fields | {"title": name})
    elif found.id is not None:
        library.new_id(known, found.id)
    title = found.fields["title"]
    if dry_run:
        console.note(f"{title} would be added to {known.folder}.")
        console.result({"id": found.id, "title": title, "path": str(known.folder)})
        return
    signals.clean_up(saves=True)
    voice = known.add(found.recordings, found.texts, id=found.id, **found.fields)
    signals.saved()
    console.note(f"Added {voice.name}; speak with it: --voice {_quoted(voice.name)}")
    console.result(library.as_dict(voice))


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _file_name(voice: Voice) -> str:
    """Return a file name for a voice, on any system."""
    from fishcli.voices import is_id

    return voice.name if is_id(voice.name) else voice.id
