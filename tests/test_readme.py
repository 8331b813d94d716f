"""Every command of the README and of the help pages, run as it stands in a shell."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
import typer
from conftest import TINY
from hub_server import Hub

from fishcli.checkpoints.local import REPO
from fishcli.cli.main import app
from fishcli.voices import Library

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ELSEWHERE = {"pip": "the test command and the first one: CI runs them", "pytest": "these tests"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line]
    # The installation in front of the first command is CI's; what follows it is run here.
    lines = [line.removeprefix("pip install . && ") for line in lines]
    return [line for line in lines if line.split()[0] not in ELSEWHERE and not line.startswith("python tests/")]


def programs_on_demand() -> list[str]:
    """What runs for minutes or hours, made short: the same programs with fewer rounds."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("python tests/")]
    # A quarter of an hour, whatever the options; and limits that a busy machine exceeds, which test_stress.py loosens.
    lines = [line for line in lines if "sanitize" not in line and " cuts " not in line]
    lines = [re.sub(r"(?<=-runs=)\d+", "300", line) for line in lines]
    return [re.sub(r"(?<= )\d+$", "3", line) for line in lines]


def pages() -> dict[str, str]:
    """The examples of each help page, as a script: a line may use the files of those before it."""
    found, commands = {}, {"fish": typer.main.get_command(app)}
    while commands:
        path, command = commands.popitem()
        commands |= {f"{path} {name}": each for name, each in getattr(command, "commands", {}).items()}
        _, _, shown = inspect.cleandoc(command.help).partition("Examples:\n")
        assert shown, f"{path} -h has no examples"
        found[path] = inspect.cleandoc(shown)
    return found


def run_elsewhere(path: str) -> bool:
    """Return whether the examples of a page are some of those of another one, in the same order."""
    script = pages()[path]
    return any(f"{script}\n" in f"{other}\n" and other != script for other in pages().values())


LONG = re.compile("bench.*--(size full|quality|serve)")
COMMANDS = commands()
ADDRESS = "127.0.0.1:8080"  # of the server in every example
SERVERS = ("fish serve", "fish webui")  # which run until they are stopped


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with what the examples take for granted: recordings, codes, a text."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "voices").mkdir()
    for name in ("paimon.wav", "voices/one.wav"):
        shutil.copy(TINY / "reference.wav", folder / name)
    (folder / "chapter.txt").write_text("The train arrives at seven. It leaves at nine.\n")
    subprocess.run([sys.executable, "-m", "fishcli", "encode", "paimon.wav"], cwd=folder, check=True)
    for name in ("fake.npy", "codes_0.npy"):
        shutil.copy(folder / "paimon.npy", folder / name)
    return folder


@pytest.fixture
def folder(template, tmp_path):
    """A copy for one example, which may change settings and leave a model there."""
    return shutil.copytree(template, tmp_path / "folder")


@pytest.fixture
def environment(tmp_path, hub):
    """A home of its own, a hub, something that plays, and short speeches."""
    player = tmp_path / "bin" / "ffplay"
    player.parent.mkdir()
    player.write_text("#!/bin/sh\ncat > /dev/null\n")
    player.chmod(0o755)
    path = [player.parent, Path(sys.executable).parent, os.environ["PATH"]]
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "FISHCLI_CONFIG_DIR": str(tmp_path / "config"),
        "FISHCLI_DATA_DIR": str(tmp_path / "data"),
        "FISHCLI_GENERATE_MAX_NEW_TOKENS": "60",
        "EDITOR": "echo",
        "HF_ENDPOINT": hub.url,
        "PULSE_SERVER": "elsewhere",  # a place for sound
        "PATH": os.pathsep.join(map(str, path)),
    }


@pytest.fixture(scope="module")
def hub(micro):
    """A hub that has Fish Speech 1.5, though a small one."""
    with Hub() as hub:
        hub.add(REPO, {path.name: path.read_bytes() for path in micro.iterdir()})
        yield hub


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a running `fish serve`, the built-in voice behind it."""
    home = tmp_path_factory.mktemp("served")
    environment = {**os.environ, "FISHCLI_DATA_DIR": str(home), "FISHCLI_SERVE_LISTEN": "127.0.0.1:0"}
    with server_of("fish serve --checkpoint-path built-in", home, environment) as address:
        yield address


@contextmanager
def server_of(command, folder, environment):
    """Run a server until the block ends; its address. It must end by itself then, without an error."""
    command = f"exec {command.replace('fish', f'{sys.executable} -m fishcli', 1)} --json"
    running = subprocess.Popen(
        ["bash", "-euc", command], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        line = running.stdout.readline()
        assert line, running.stderr.read().decode()
        yield json.loads(line)["url"].removeprefix("http://")
    finally:
        running.terminate()
        _, said = running.communicate(timeout=40)
    assert running.returncode == 0, said.decode()


def needs_gradio(command):
    if "webui" in command and os.environ.get("CI") != "true":
        pytest.importorskip("gradio")


def keep_anna(environment):
    """Add the voice that some examples name to the library of their environment."""
    library = Library(Path(environment["FISHCLI_DATA_DIR"]) / "voices")
    library.add(
        [(TINY / "reference.wav").read_bytes()], [(TINY / "reference.lab").read_text()], title="anna", id="anna"
    )


def _spared(command: str, environment: dict[str, str]) -> dict[str, str]:
    """Return the environment of a command; one that clears the cache gets its own, since other tests need theirs."""
    own = {"FISHCLI_CACHE_DIR": f"{environment['HOME']}/cache"} if "cache clear" in command else {}
    return {**environment, **own}


@pytest.mark.skipif(os.name == "nt", reason="the README's shell is a POSIX one")
@pytest.mark.parametrize(
    "command", [pytest.param(each, marks=pytest.mark.slow if LONG.search(each) else ()) for each in COMMANDS]
)
def test_command(command, folder, environment, request):
    if command in SERVERS:
        needs_gradio(command)
        listen = {"FISHCLI_SERVE_LISTEN": "127.0.0.1:0", "FISHCLI_WEBUI_LISTEN": "127.0.0.1:0"}
        with server_of(command, folder, {**environment, **listen}):
            return
    if ADDRESS in command or command.startswith("fish client"):
        address = request.getfixturevalue("served")
        command, environment["FISHCLI_CLIENT_URL"] = command.replace(ADDRESS, address), f"http://{address}"
    if "--voice anna" in command:  # which an earlier line has added
        keep_anna(environment)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=_spared(command, environment), capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    for output in re.findall(r"(?:-o|>) (\S+\.(?:wav|flac|mp3))", command):
        made = list(folder.glob(f"{Path(output).stem}*{Path(output).suffix}"))  # several samples are numbered
        assert made
        assert all(soundfile.info(path).duration > 0.3 for path in made)


@pytest.mark.skipif(os.name == "nt", reason="the shell of the examples is a POSIX one")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(each, marks=pytest.mark.slow if each == "fish bench" else ())
        for each in pages()
        if each not in SERVERS and not run_elsewhere(each)
    ],
)
def test_examples_of_a_help_page(path, tmp_path, environment, request):
    """In an empty folder: they use no file that they do not make."""
    (tmp_path / "empty").mkdir()
    command = pages()[path]
    if path.startswith("fish voices ") and "anna" in command and "add" not in command and "freeze" not in command:
        keep_anna(environment)
    if path == "fish client":
        address = request.getfixturevalue("served")
        command = re.sub(r"--url \S+", f"--url http://{address}", command).replace("--voice anna", "")
        environment["FISHCLI_CLIENT_URL"] = f"http://{address}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=tmp_path / "empty",
        env=_spared(command, environment),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="they fork and kill")
@pytest.mark.parametrize("command", programs_on_demand())
def test_program_on_demand(command, environment, tmp_path):
    if "-runs=" in command:
        pytest.importorskip("atheris")
        command += f" -artifact_prefix={tmp_path}/"
    subprocess.run(["bash", "-euc", command], cwd=ROOT, env=environment, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("command", [line for each in SERVERS for line in pages()[each].splitlines()])
def test_examples_of_servers(command, tmp_path, environment):
    needs_gradio(command)
    (tmp_path / "fishcli.key").write_text("a-key\n")
    (tmp_path / "fishcli.key").chmod(0o600)
    command = re.sub(r":\d+", ":0", command) if "--listen" in command else f"{command} --listen 127.0.0.1:0"
    with server_of(command, tmp_path, environment):
        pass


@pytest.mark.parametrize("program", blocks("python"))
def test_program(program, folder, environment, request):
    if ADDRESS in program:
        program = program.replace(ADDRESS, request.getfixturevalue("served"))
    ran = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True, capture_output=True)
    if "hello.wav" in program:
        assert soundfile.info(folder / "hello.wav").duration > 0.3
    else:
        assert b" s of " in ran.stdout


def test_the_service_starts_a_server_that_takes_its_options(tmp_path):
    """The unit of systemd, and the container: they call `fish serve` with options that it has."""
    (unit,), (container,) = blocks("ini"), blocks("dockerfile")
    known = subprocess.run([sys.executable, "-m", "fishcli", "serve", "-h"], capture_output=True, text=True).stdout
    for call in (re.search("^ExecStart=(.*)$", unit, re.M)[1], re.search("^ENTRYPOINT (.*)$", container, re.M)[1]):
        assert re.search(r'fish"?,? "?serve', call)
        assert set(re.findall(r"--[a-z-]+", call)) <= set(re.findall(r"--[a-z-]+", known))
    if verify := shutil.which("systemd-analyze"):
        file = tmp_path / "fish.service"
        file.write_text(re.sub("^ExecStart=.*$", f"ExecStart={sys.executable}", unit, flags=re.M))
        checked = subprocess.run([verify, "verify", str(file)], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.slow
def test_the_first_command_on_a_fresh_machine(tmp_path):
    """`pip install . && fish say ...` in a new environment; PIP_CONSTRAINT may name the CPU build of torch."""
    first = blocks("sh")[0].splitlines()[0]
    assert first.startswith("pip install .")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    path = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = first.replace("-o hello.wav", f"-o {tmp_path}/hello.wav").replace("install .", f"install {ROOT}")
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    assert soundfile.info(tmp_path / "hello.wav").duration > 0.5
