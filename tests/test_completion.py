"""Shell completion: the scripts of the three shells, and the completions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shells import find_shell, make_programs, path

from fishcli.cli.completers import models
from fishcli.cli.completion_scripts import SCRIPTS as TEXTS

SCRIPTS = Path(__file__).parent.parent / "completions"
SHELLS = {"bash": "fish.bash", "zsh": "_fish", "fish": "fish.fish"}


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment in which `fish` starts this program, in a working folder with some files."""
    monkeypatch.chdir(tmp_path)
    for file in ("paimon.wav", "paimon.lab", "fake.npy"):
        (tmp_path / file).touch()
    for voice in ("paimon", "nahida", "f" * 32):
        (tmp_path / "references" / voice).mkdir(parents=True)
        (tmp_path / "references" / voice / "00.wav").touch()
    (tmp_path / "references" / ("f" * 32) / "voice.json").write_text('{"title": "fox"}')
    (tmp_path / "checkpoints" / "mine").mkdir(parents=True)
    (tmp_path / "checkpoints" / "mine" / "config.json").touch()
    program = tmp_path / "bin" / "fish"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom fishcli.__main__ import main\nmain()\n")
    program.chmod(0o755)
    return {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SCRIPTS.parent),
    }


def offered(environment: dict[str, str], *words: str) -> list[str]:
    """Return the completions that bash gets for the last word."""
    asked = {"_FISH_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    ran = subprocess.run(["fish"], env=environment | asked, capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_checked_in_scripts_are_those_of_the_program(shell, fish):
    printed = fish("completion", shell).out
    assert printed == TEXTS[shell]
    regenerate = f"fish completion {shell} > completions/{SHELLS[shell]}"
    assert (SCRIPTS / SHELLS[shell]).read_text() == printed, f"stale; run: {regenerate}"


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["fish", ""], {"say", "generate", "encode", "decode", "download", "doctor", "completion", "config"}),
        (["fish", "enc"], {"encode"}),
        (["fish", "say", "--ref"], {"--ref", "--ref-text"}),
        (["fish", "say", "--checkpoint-path", ""], {"built-in", "checkpoints/mine"}),
        (["fish", "say", "--checkpoint-path", "che"], {"checkpoints/mine"}),
        (["fish", "say", "--checkpoint-path=bu"], {"built-in"}),
        (["fish", "decode", "--device", "c"], {"cpu", "cuda"}),
        (["fish", "say", "Hello", "--dtype", "float"], {"float32", "float16"}),
        (["fish", "decode", "x.npy", "--subtype", ""], {"PCM_16", "PCM_24", "FLOAT"}),
        (["fish", "say", "Hello", "--voice", ""], {"paimon", "nahida", "fox"}),
        (["fish", "generate", "--voice", "pai"], {"paimon"}),
        (["fish", "client", "--voice", "fo"], {"fox"}),
        (["fish", "voices", "show", "na"], {"nahida"}),
        (["fish", "voices", "rm", "paimon", "na"], {"nahida"}),
        (["fish", "voices", "s"], {"show"}),
        (["fish", "voices", "show", "zz"], set()),
        (["fish", "config", "s"], {"show", "set"}),
        (["fish", "config", "get", "generate.top"], {"generate.top_p"}),
        (["fish", "config", "set", "compile", ""], {"true", "false"}),
        (["fish", "config", "set", "dtype", "b"], {"bfloat16"}),
        (["fish", "config", "set", "generate.top_p", ""], set()),
        (["fish", "config", "set", "no_such", ""], set()),
        (["fish", "completion", ""], {"bash", "zsh", "fish"}),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_completions(environment, words, some):
    found = offered(environment, *words)
    assert some <= set(found)
    assert words[-1] == "" or len(found) == len(some)
    assert some or not found


@pytest.mark.parametrize(
    "words",
    [["fish", "say", "--ref", ""], ["fish", "encode", "pai"], ["fish", "say", "--file", ""], ["fish", "decode", ""]],
    ids=" ".join,
)
def test_files_are_completed_by_the_shell(environment, words):
    assert offered(environment, *words) == []
    assert "-o default" in TEXTS["bash"]  # which then completes files


def test_a_broken_settings_file_does_not_disable_it(environment, tmp_path):
    (tmp_path / "fishcli.toml").write_text("device = \n")
    assert offered(environment, "fish", "enc") == ["encode"]
    assert offered(environment, "fish", "say", "--dev") == ["--device"]
    assert offered(environment, "fish", "say", "--device", "m") == ["mps"]


def test_subtypes_are_those_that_a_wav_can_hold():
    from fishcli.audio.formats import FORMATS
    from fishcli.cli import completers

    assert completers.subtypes("") == list(FORMATS["wav"].subtypes)


def test_zsh_and_fish_show_the_help(environment):
    asked = {"_TYPER_COMPLETE_ARGS": "fish config get generate.see", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    help_of_it = "Repeat a result."
    for shell, expected in {
        "zsh": f"""_arguments '*: :(("generate.seed":"{help_of_it}"))'""",
        "fish": f"generate.seed\t{help_of_it}",
    }.items():
        variables = environment | asked | {"_FISH_COMPLETE": f"complete_{shell}"}
        ran = subprocess.run(["fish"], env=variables, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == expected


COMPLETED = [
    # the program on the command line; programs in the folders of PATH, in order; whether it is completed
    ("fish", ["ours"], True),
    ("fish", [], False),
    ("fish", ["other"], False),
    ("fish", ["other", "ours"], False),
    ("fish", ["ours", "other"], True),
    ("fishcli", ["other", "ours"], True),
    ("fishcli", ["other"], False),
    ("ours/fish", ["other"], True),
    ("other/fish", ["ours"], False),
    ("~/ours/fish", [], True),
    ("no-such/fish", ["ours"], False),
]


@pytest.fixture
def programs(environment, tmp_path):
    """The environment of a shell, with folders of programs in the working folder."""
    make_programs(tmp_path)
    return {**environment, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}


BASH = """
source {script}
COMP_WORDS=({program} config set dev) COMP_CWORD=3
$(complete -p {name} | sed 's/.*-F \\([^ ]*\\) .*/\\1/') '{program}'
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(("program", "first", "completed"), COMPLETED)
def test_bash_completes_our_program_and_starts_no_other(programs, tmp_path, program, first, completed):
    line = BASH.format(script=SCRIPTS / "fish.bash", program=program, name=Path(program).name)
    command = [find_shell("bash"), "--norc", "-euc", line]
    ran = subprocess.run(command, env=programs | {"PATH": path(tmp_path, *first)}, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "device\n" if completed else "\n", "")
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(not find_shell("fish"), reason="there is no fish shell")
@pytest.mark.parametrize(("program", "first", "completed"), COMPLETED)
def test_the_fish_shell_completes_our_program_and_starts_no_other(programs, tmp_path, program, first, completed):
    line = f"source {SCRIPTS / 'fish.fish'}; complete --do-complete '{program} config set dev'"
    command = [find_shell("fish"), "--no-config", "-c", line]
    ran = subprocess.run(command, env=programs | {"PATH": path(tmp_path, *first)}, capture_output=True, text=True)
    assert ran.stderr == ""
    assert ("device" in ran.stdout) == completed
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(not find_shell("fish"), reason="there is no fish shell")
@pytest.mark.parametrize(("first", "kept"), [("shell", True), ("other", True), ("ours", False)])
@pytest.mark.parametrize("later", [False, True])
def test_the_fish_shell_keeps_its_own_completion(programs, tmp_path, first, kept, later):
    """Wherever `fish` is not ours, also after a change of PATH, as by a virtual environment."""
    path_of = " ".join(path(tmp_path, first).split(os.pathsep))
    before = path_of.replace(first, "ours" if kept else "other") if later else path_of
    line = f"set PATH {before}; source {SCRIPTS / 'fish.fish'}; set PATH {path_of}; complete -C 'fish --no-con'"
    command = [find_shell("fish"), "--no-config", "-c", line]
    ran = subprocess.run(command, env=programs, capture_output=True, text=True)
    assert ("--no-config" in ran.stdout, ran.stderr) == (kept, "")
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(not find_shell("zsh"), reason="there is no zsh")
def test_zsh_reads_its_script(environment):
    program = f"fpath=({SCRIPTS} $fpath); autoload -Uz compinit; compinit -u -D; print $_comps[fish]"
    command = [find_shell("zsh"), "-fc", program]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "_fish\n"


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", "data/bash-completion/completions/fish"),
        ("zsh", "zdot/.zfunc/_fish"),
        ("fish", "config/fish/completions/fish.fish"),
    ],
)
def test_install_writes_the_file_that_the_shell_reads(environment, tmp_path, shell, place):
    folders = {"XDG_DATA_HOME": "data", "ZDOTDIR": "zdot", "XDG_CONFIG_HOME": "config"}
    variables = environment | {name: str(tmp_path / folder) for name, folder in folders.items()}
    variables.pop("BASH_COMPLETION_USER_DIR", None)
    command = ["fish", "completion", shell, "--install"]
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert (tmp_path / place).read_text() == TEXTS[shell]
    assert ran.stdout == ""
    assert str(tmp_path / place) in ran.stderr
    assert "open" in ran.stderr.lower()
    assert "warning" not in ran.stderr


def test_install_without_variables_goes_to_the_home_folder(fish, tmp_path, monkeypatch):
    for variable in ("XDG_DATA_HOME", "ZDOTDIR", "XDG_CONFIG_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for shell in SHELLS:
        fish("completion", shell, "--install")
    bash, shell = Path(".local/share/bash-completion/completions"), Path(".config/fish/completions")
    places = [bash / "fish", bash / "fishcli", Path(".zfunc/_fish"), shell / "fish.fish", shell / "fishcli.fish"]
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*fish*") if path.is_file()} == set(places)


def test_install_warns_where_fish_is_another_program(fish, tmp_path, monkeypatch):
    other = tmp_path / "bin" / "fish"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ran = fish("completion", "fish", "--install")
    assert ran.code == 0
    assert "is another program" in ran.err


def test_install_without_permission_is_one_error(fish, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    ran = fish("completion", "fish", "--install")
    assert ran.code == 1
    assert "cannot be written" in ran.err


def test_an_unknown_shell_is_a_usage_error(fish):
    ran = fish("completion", "tcsh")
    assert ran.code == 2
    assert "bash" in ran.err


def test_models_are_completed(environment):
    assert models("built") == ["built-in"]
    assert models("checkpoints/m") == ["checkpoints/mine"]
    assert models("x") == []
