"""Standard streams that are closed, full, not UTF-8, or that nobody reads; and other surroundings that are missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit

PROGRAM = f"{sys.executable} -m fishcli"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="runs bash")


def run(folder: Path, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `fish` is our program. A pipe has the exit code of the part that failed."""
    line = f'set -o pipefail; fish() {{ {PROGRAM} "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


CLOSED = {
    # line: exit code, how stderr ends
    "fish --version >&-": (0, ""),
    "fish -h >&-": (0, ""),
    "fish config show >&-": (0, ""),
    "fish completion bash >&- <&-": (0, ""),
    "fish say Hi. --dry-run >&-": (0, "for out.wav.\n"),
    "fish say Hi. --dry-run --json >&-": (0, ""),
    "fish say Hi. --dry-run >&- 2>&-": (0, ""),
    "fish say Hi. --dry-run <&- >&- 2>&-": (0, ""),
    "fish say Hi. -q >&- && test -s out.wav": (0, ""),
    "fish say Hi. -o - >&-": (
        2,
        "error: -o - writes to stdout, which is closed; redirect it to a file or a pipe, or pass -o FILE.\n",
    ),
    "fish say - <&-": (1, "error: There is no stdin; pass a file.\n"),
    "fish say >&- 2>&-": (2, ""),
}


@pytest.mark.parametrize("line", CLOSED)
def test_closed_streams(tmp_path, line):
    code, said = CLOSED[line]
    ran = run(tmp_path, line)
    assert ran.returncode == code, ran.stderr
    assert ran.stderr == said or (said and ran.stderr.endswith(said))
    assert ran.stdout == ""


NOT_UTF8 = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252:strict"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("encoding", NOT_UTF8)
def test_a_stdout_that_is_not_utf_8_takes_any_text(tmp_path, encoding):
    ran = run(tmp_path, "fish say 'Héllo Ж 音.' --dry-run", **NOT_UTF8[encoding])
    assert ran.returncode == 0, ran.stderr
    assert "\\u0416 \\u97f3" in ran.stdout


@pytest.mark.parametrize("encoding", NOT_UTF8)
def test_json_is_the_same_in_any_encoding(tmp_path, encoding):
    ran = run(tmp_path, "fish say 'Héllo Ж 音.' --dry-run --json", **NOT_UTF8[encoding])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.isascii()
    assert json.loads(ran.stdout)["chunks"][0]["text"] == "Héllo Ж 音."


def test_json_in_utf_8_is_legible(tmp_path):
    assert "Héllo" in run(tmp_path, "fish say 'Héllo.' --dry-run --json", PYTHONIOENCODING="utf-8").stdout


def test_an_error_names_a_file_in_any_encoding(tmp_path):
    ran = run(tmp_path, "fish say --file 音→.txt", **NOT_UTF8["C"])
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr


def test_a_text_that_is_not_utf_8_is_one_sentence(tmp_path):
    ran = run(tmp_path, "fish say $'caf\\xe9'")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: The text is not UTF-8: byte 0xe9 at offset 3")


@pytest.mark.parametrize("arguments", [["-h"], ["--version"], ["config", "show", "--json"]], ids=" ".join)
def test_a_reader_that_has_gone_is_141_without_a_word(tmp_path, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fishcli", *arguments]
    ran = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["fish --version", "fish say Hi. --dry-run -q", "fish say Hi. --dry-run --json"])
def test_a_full_disk_under_stdout_is_one_sentence(tmp_path, line, unbuffered):
    ran = run(tmp_path, f"{line} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: stdout cannot be written (No space left on device)")
    assert ran.stderr.count("\n") == 1


STRAY = "error: _FISH_COMPLETE is set, as completion scripts do for one call; unset it.\n"
SURROUNDINGS = {
    # line: exit code, stderr
    "_FISH_COMPLETE=complete_bash fish": (2, STRAY),
    "COMP_WORDS=fish COMP_CWORD=x _FISH_COMPLETE=complete_bash fish": (2, STRAY),
    "_FISH_COMPLETE=source_bash fish": (2, STRAY),
    "_FISH_COMPLETE=1 fish": (2, STRAY),
    "_FISH_COMPLETE= fish --version": (0, ""),
    "mkdir x; cd x; rmdir ../x; fish say Hi.": (
        1,
        "error: The working folder does not exist any more; change to another one.\n",
    ),
    "mkdir x; cd x; rmdir ../x; fish --version": (0, ""),
    "mkdir x; cd x; rmdir ../x; fish -h": (0, ""),
}


@pytest.mark.parametrize("line", SURROUNDINGS)
def test_missing_surroundings_are_one_sentence(tmp_path, line):
    ran = run(tmp_path, line, PYTHONPATH=str(Path(__file__).parent.parent))
    assert (ran.returncode, ran.stderr) == SURROUNDINGS[line]


def test_fish_and_fishcli_are_one_program(tmp_path):
    project = tomlkit.parse((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    scripts = project["project"]["scripts"]
    assert scripts.keys() == {"fish", "fishcli"}
    for target in set(scripts.values()):
        module, _, function = target.partition(":")
        program = f"import sys; sys.argv[1:] = ['--version']; from {module} import {function}; {function}()"
        ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert (ran.returncode, ran.stdout[:8]) == (0, "fishcli ")
