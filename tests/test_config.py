"""Settings: names, ranges, precedence, line numbers, and edits that keep the rest of a file."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fishcli.config import (
    SETTINGS,
    find_setting,
    format_value,
    init,
    load_settings,
    local_file,
    set_value,
    template,
    unset,
    user_file,
)
from fishcli.config.read import MAX_BYTES, read_file
from fishcli.errors import FishError, SettingError

FILE_TESTS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "fishcli.toml"


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's config.toml, of this test alone."""
    monkeypatch.setenv("FISHCLI_CONFIG_DIR", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    return user_file()


def said(file: Path, text: str | bytes) -> str:
    """Return the error of reading a file with that content, without the file's name."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(SettingError) as caught:
        read_file(file)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{file}, ")


# The table


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.key)
def test_a_default_is_one_that_a_file_could_set(setting):
    value = setting.example if setting.default is None else setting.default
    assert setting.accepts(value)
    assert setting.default is None or setting.example is None
    if setting.kind in ("int", "float"):
        assert setting.minimum < setting.maximum


def test_no_two_settings_share_a_variable_or_an_option_of_one_command():
    assert len({setting.variable for setting in SETTINGS.values()}) == len(SETTINGS)
    shared = [setting.name for setting in SETTINGS.values() if setting.table in ("", "generate")]
    for table in {setting.table for setting in SETTINGS.values()} - {"", "generate"}:
        names = shared + [setting.name for setting in SETTINGS.values() if setting.table == table]
        assert len(set(names)) == len(names)


def test_sampling_has_the_same_defaults_and_ranges():
    from fishcli.request import SamplingParams

    usual = SamplingParams()
    for name in ("temperature", "top_p", "repetition_penalty", "seed", "max_new_tokens"):
        setting = SETTINGS[f"generate.{name}"]
        assert getattr(usual, name) == setting.default
        for value in (-1, 0, 1e-9, 1, setting.maximum, setting.maximum + 1, float("nan"), float("inf")):
            if setting.kind == "int" and not isinstance(value, int):
                continue
            try:
                SamplingParams(**{name: value})
            except SettingError:
                assert not setting.accepts(value), (name, value)
            else:
                assert setting.accepts(value), (name, value)


def test_the_import_is_light():
    heavy = ["torch", "numpy", "typer", "click", "rich", "tomlkit", "tomllib", "tomli", "difflib", "platformdirs"]
    code = f"import sys, fishcli.config; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Merging


def test_without_files_and_variables_everything_is_the_default(tmp_path, own_file):
    found = load_settings(tmp_path, {"PATH": "/bin"})
    assert {key: each.value for key, each in found.resolved.items()} == {
        key: setting.default for key, setting in SETTINGS.items()
    }
    assert {each.source for each in found.resolved.values()} == {"default"}
    assert found.defaults_for("say") == {}


def test_the_environment_overrides_the_folder_and_the_folder_the_user(tmp_path, own_file, file):
    own_file.write_text("device = 'cpu'\ncompile = true\n[generate]\ntop_p = 0.1\ntemperature = 1\n")
    file.write_text("\n[generate]\n# mine\ntop_p = 0.2\nseed = 3\n")
    found = load_settings(tmp_path, {"FISHCLI_GENERATE_SEED": "4", "FISHCLI_SAY_PLAY": "on"})
    got = {key: (each.value, each.source) for key, each in found.resolved.items() if each.source != "default"}
    assert got == {
        "device": ("cpu", f"{own_file}:1"),
        "compile": (True, f"{own_file}:2"),
        "generate.temperature": (1.0, f"{own_file}:5"),
        "generate.top_p": (0.2, f"{file}:4"),
        "generate.seed": (4, "environment FISHCLI_GENERATE_SEED"),
        "say.play": (True, "environment FISHCLI_SAY_PLAY"),
    }
    assert list(found.resolved) == list(SETTINGS)
    assert type(found.find("generate.temperature").value) is float


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("say", {"device", "top_p", "play"}),
        ("generate", {"device", "top_p"}),
        ("serve", {"device", "top_p"}),
        ("download", {"device", "revision"}),
        ("encode", {"device"}),
    ],
)
def test_a_command_reads_the_top_its_own_table_and_generate(tmp_path, own_file, file, command, names):
    file.write_text("device='cpu'\ngenerate.top_p=0.5\nsay.play=true\ndownload.revision='main'\n")
    assert set(load_settings(tmp_path, {}).defaults_for(command)) == names


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("compile", "yes", True),
        ("compile", "TRUE", True),
        ("compile", "1", True),
        ("compile", "off", False),
        ("compile", "0", False),
        ("threads", " 4 ", 4),
        ("generate.temperature", "0", 0.0),
        ("generate.top_p", "1e-3", 0.001),
        ("generate.seed", "9223372036854775807", 2**63 - 1),
        ("device", "cuda", "cuda"),
        ("codec_path", "a b/é.pth", "a b/é.pth"),
    ],
)
def test_the_environment_and_set_parse_alike(tmp_path, own_file, file, key, text, value, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load_settings(tmp_path, {SETTINGS[key].variable: text}).find(key)
    assert found.value == value
    assert type(found.value) is type(value)
    assert set_value(file, key, text) == value
    assert read_file(file)[key].value in (value, str(tmp_path / str(value)))


@pytest.mark.parametrize(
    "name",
    ["FISHCLI_CACHE_DIR", "FISHCLI_CONFIG_DIR", "FISHCLI_DATA_DIR", "FISHCLI_TEST_FULL", "FISHCLI_TEST_KILLS", "FISH"],
)
def test_other_variables_are_ignored(tmp_path, own_file, name):
    assert load_settings(tmp_path, {name: "x", "FISHCLI_DEVICE": ""}).defaults_for("say") == {}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"FISHCLI_TOP_P": "1"},
            'The environment variable "FISHCLI_TOP_P" is not a setting: did you mean FISHCLI_GENERATE_TOP_P?',
        ),
        (
            {"FISHCLI_DEVISE": "cpu"},
            'The environment variable "FISHCLI_DEVISE" is not a setting: did you mean FISHCLI_DEVICE?',
        ),
        (
            {"FISHCLI_GENERATE_TOPP": "1"},
            'The environment variable "FISHCLI_GENERATE_TOPP" is not a setting: did you mean FISHCLI_GENERATE_TOP_P?',
        ),
        ({"FISHCLI_QQQ": "1"}, 'The environment variable "FISHCLI_QQQ" is not a setting: unset it.'),
        (
            {"FISHCLI_DEVICE": "gpu"},
            'The environment variable FISHCLI_DEVICE must be one of auto, cpu, cuda, mps, not "gpu".',
        ),
        (
            {"FISHCLI_GENERATE_TOP_P": "nan"},
            "The environment variable FISHCLI_GENERATE_TOP_P must be a number above 0 and at most 1, not nan.",
        ),
        ({"FISHCLI_COMPILE": "2"}, 'The environment variable FISHCLI_COMPILE must be true or false, not "2".'),
    ],
)
def test_an_invalid_variable_is_reported(tmp_path, own_file, environ, message):
    with pytest.raises(SettingError) as caught:
        load_settings(tmp_path, environ)
    assert str(caught.value) == message


# Paths


def test_paths_in_a_file_start_at_its_folder(tmp_path, own_file, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    own_file.write_text('codec_path = "a/codec.pth"\n[download]\nlocal_dir = "~/m"\n[generate]\noutput_dir="/out"\n')
    found = load_settings(tmp_path, {"FISHCLI_CHECKPOINT_PATH": "~/models/x"})
    assert found.find("codec_path").value == str(own_file.parent / "a" / "codec.pth")
    assert Path(found.find("download.local_dir").value) == Path("/home/me/m")
    assert Path(found.find("generate.output_dir").value) == Path("/out")
    assert Path(found.find("checkpoint_path").value) == Path("/home/me/models/x")


@pytest.mark.parametrize(
    ("written", "is_path"),
    [
        ("fish-speech-1.5", False),
        ("fishaudio/fish-speech-1.5", False),
        ("built-in", False),
        ("./fish-speech-1.5", True),
        ("../x", True),
        ("a/b/c", True),
        ("here", True),
        ("here/inner", True),
    ],
)
def test_a_model_is_a_folder_beside_the_file_or_a_name(tmp_path, file, written, is_path):
    (tmp_path / "here" / "inner").mkdir(parents=True)
    file.write_text(f'checkpoint_path = "{written}"\n')
    assert read_file(file)["checkpoint_path"].value == (os.path.join(tmp_path, written) if is_path else written)


def test_set_writes_a_path_relative_to_the_file(tmp_path, own_file, file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    set_value(own_file, "codec_path", "codec.pth")
    set_value(file, "codec_path", "codec.pth")
    assert read_file(own_file)["codec_path"].value == str(tmp_path / "codec.pth")
    assert 'codec_path = "codec.pth"' in file.read_text()
    set_value(own_file, "checkpoint_path", "fish-speech-1.5")
    assert read_file(own_file)["checkpoint_path"].value == "fish-speech-1.5"


# Files that are wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\ndevise = 'cpu'", 'line 3: "devise" is not a setting: did you mean device?'),
        ("top_p = 0.5", 'line 1: "top_p" is not a setting: did you mean generate.top_p?'),
        ("[generate]\ntop-p = 0.5", 'line 2: "generate.top-p" is not a setting: did you mean generate.top_p?'),
        ("[generate]\ndevice = 'cpu'", 'line 2: "generate.device" is not a setting: did you mean device?'),
        ("xyzzy = 1", 'line 1: "xyzzy" is not a setting: `fish config show` lists them.'),
        (
            '"generate.top_p" = 1',
            'line 1: ""generate.top_p"" is not a setting: did you mean generate.top_p?',
        ),
        ("a.b.c.d = 1", 'line 1: "a.b" is not a setting: `fish config show` lists them.'),
        ("generate = {top_q = 1}", 'line 1: "generate.top_q" is not a setting: did you mean generate.top_p?'),
        ("generate = 5", "line 1: generate is a table: use a setting in it, such as generate.temperature."),
        ("# x\n[generat]", 'line 2: "generat" is not a table: did you mean [generate]?'),
        ("[xyzzy.x]", 'line 1: "xyzzy.x" is not a table: `fish config show` lists all settings.'),
        ("[[generate]]", "line 1: [[generate]] must be [generate]."),
        ("device = 3", "line 1: device must be one of auto, cpu, cuda, mps, not 3."),
        ("device = {a = 1}", 'line 1: "device.a" is not a setting: did you mean device?'),
        ("compile = 'true'", 'line 1: compile must be true or false, not "true".'),
        ("compile = 1", "line 1: compile must be true or false, not 1."),
        ("threads = true", "line 1: threads must be a whole number from 1 to 1024, not true."),
        ("threads = 4.0", "line 1: threads must be a whole number from 1 to 1024, not 4.0."),
        ("threads = 0", "line 1: threads must be a whole number from 1 to 1024, not 0."),
        ("threads = [[1]]", "line 1: threads must be a whole number from 1 to 1024, not a list."),
        ("threads = 1979-05-27", "line 1: threads must be a whole number from 1 to 1024, not 1979-05-27."),
        (
            "[generate]\ntop_p = 0",
            "line 2: generate.top_p must be a number above 0 and at most 1, not 0.",
        ),
        (
            "generate.top_p.x = 0",
            "line 1: generate.top_p must be a number above 0 and at most 1, not a table.",
        ),
        ("[generate]\ntemperature = nan", "line 2: generate.temperature must be a number from 0 to 2, not nan."),
        ("[generate]\ntemperature = inf", "line 2: generate.temperature must be a number from 0 to 2, not inf."),
        ("[generate]\ntemperature = '1'", 'line 2: generate.temperature must be a number from 0 to 2, not "1".'),
        (
            f"[generate]\ntemperature = 0x{'f' * 4000}",
            "line 2: generate.temperature must be a number from 0 to 2, not a number that long.",
        ),
        ('language = ""', 'line 1: language must be text, not "".'),
        ('language = "\\u001b[31m"', 'line 1: language must be text, not "\\x1b[31m".'),
        ('codec_path = "\\u0000"', 'line 1: codec_path must be a path, not "\\x00".'),
        ("device = 'cpu'\nfoo", "line 2 is not TOML with one setting per line: "),
        ("device = 'cpu", "line 1 is not TOML with one setting per line: "),
        ('\ndevice = """\ncpu"""', "line 2 is not TOML with one setting per line: "),
        ("threads = [\n1\n]", "line 1 is not TOML with one setting per line: "),
        (f"[generate]\nseed = {'9' * 4050}\n", None),
        ("[generate]\nseed = 1\n\nseed = 2\n", "line 4 is not TOML with one setting per line: "),
        ("[generate]\n[say]\n[generate]\n", "line 3 is not TOML with one setting per line: "),
        ("device = 'cpu'\rcompile = true", "line 1 is not TOML with one setting per line: "),
        (b"# ok\n# \xff\n", "line 2 is not UTF-8: save the file as UTF-8."),
        (b"\x00", "line 1 is not TOML with one setting per line: "),
        ("# " + "x" * 5000, "line 1 is longer than 4096 characters: shorten it."),
        ("threads = " + "[" * 4000, "line 1 is "),
        ("threads = " + "{a=" * 1300, "line 1 is "),
        (".".join("a" * 2000) + " = 1", "line 1"),  # newer readers call it too deep, older ones read it
        (f"[{'.'.join('a' * 2000)}]", "line 1"),
    ],
    ids=lambda value: repr(value)[:40] if value else "-",
)
def test_an_invalid_file_is_one_sentence_with_the_line(file, text, message):
    started = time.process_time()
    got = said(file, text)
    if message is not None:
        assert got == message if message.endswith((".", "?")) else got.startswith(message)
    assert len(got) < 250
    assert time.process_time() - started < 20  # a fraction of one; steps that grow faster than the file take minutes


def test_a_file_that_is_too_large_or_a_folder_is_rejected(tmp_path, own_file, file):
    assert said(file, b"\n" * (MAX_BYTES + 1)).endswith("too large for a settings file: move it away.")
    file.write_bytes(b"#" + b"\n" * (MAX_BYTES - 1))
    assert read_file(file) == {}
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingError, match="is not a file"):
        load_settings(tmp_path, {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_does_not_block(file):
    os.mkfifo(file)
    caught: list[BaseException] = []

    def read() -> None:
        try:
            read_file(file)
        except SettingError as error:
            caught.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert len(caught) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_an_error(file):
    file.write_text("device = 'cpu'")
    file.chmod(0)
    with pytest.raises(SettingError, match="cannot be read"):
        read_file(file)


def test_an_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(SettingError, match="cannot be read"):
        read_file(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("text", ["\ufeffdevice = 'cpu'\r\n", "device = 'cpu' # é", '"device"="c\\u0070u"'])
def test_the_line_ends_and_bom_of_editors_are_accepted(file, text):
    file.write_bytes(text.encode())
    assert read_file(file)["device"].value == "cpu"
    assert read_file(file)["device"].source == f"{file}:1"


def test_line_ends_of_python_alone_do_not_shift_the_lines(file):
    file.write_text("# \u2028 \u0085\ndevice = 'cpu'\n", encoding="utf-8")
    assert read_file(file)["device"].source == f"{file}:2"


# Editing

MINE = """\
# my settings
device = 'cpu'    # the old machine

[generate]

# careful with this one
top_p   = 0.5  # was 0.7
generous = true  # a mistake

[say]
play = true
"""


def test_set_changes_one_value_and_keeps_every_other_byte(file):
    file.write_text(MINE)
    assert set_value(file, "generate.top_p", "0.8") == 0.8
    assert file.read_text() == MINE.replace("0.5", "0.8")
    assert set_value(file, "device", "cuda") == "cuda"
    assert file.read_text() == MINE.replace("0.5", "0.8").replace("'cpu'", '"cuda"')


def test_set_adds_and_unset_removes(file):
    file.write_text(MINE)
    set_value(file, "compile", "yes")
    set_value(file, "generate.seed", "7")
    set_value(file, "download.revision", "main")
    text = file.read_text()
    assert re.sub(r"(?m)^(compile = true|seed = 7|\[download]|revision = \"main\")\n", "", text).split() == MINE.split()
    for key in ("compile", "generate.seed", "download.revision", "generate.generous"):
        unset(file, key)
    assert {key: each.value for key, each in read_file(file).items()} == {
        "device": "cpu",
        "generate.top_p": 0.5,
        "say.play": True,
    }


def test_set_creates_the_file_and_its_folder(tmp_path):
    file = tmp_path / "a" / "b" / "config.toml"
    set_value(file, "generate.top_p", "0.8")
    assert file.read_text() == "[generate]\ntop_p = 0.8\n"
    assert [each.name for each in file.parent.iterdir()] == ["config.toml"]


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("generate.top_q", "0.8", '"generate.top_q" is not a setting: did you mean generate.top_p?'),
        ("generate", "1", "generate is a table: use a setting in it, such as generate.temperature."),
        ("generate.top_p", "2", "generate.top_p must be a number above 0 and at most 1, not 2.0."),
        ("generate.seed", "x", 'generate.seed must be a whole number from 0 to 9223372036854775807, not "x".'),
        ("generate.seed", "9" * 5000, None),
        ("codec_path", "\udcff", 'codec_path must be a path, not "\\udcff".'),
    ],
)
def test_set_rejects_what_reading_rejects(file, key, text, message):
    file.write_text(MINE)
    with pytest.raises(SettingError) as caught:
        set_value(file, key, text)
    assert message is None or str(caught.value) == message
    assert file.read_text() == MINE


def test_set_and_unset_repair_a_file_unless_it_is_not_toml(file):
    file.write_text("[generate]\ntop_p = 5\n")
    set_value(file, "generate.top_p", "0.5")
    assert read_file(file)["generate.top_p"].value == 0.5
    for broken in ("device = ", "generate = 5"):
        file.write_text(broken)
        with pytest.raises(SettingError, match=re.escape(str(file))):
            set_value(file, "generate.top_p", "0.5")
        assert file.read_text() == broken
    with pytest.raises(SettingError, match="is not set in"):
        unset(file, "generate.top_p")


def test_a_file_that_cannot_be_written_is_a_failure(file):
    file.write_text("")
    with pytest.raises(FishError, match="cannot be written"):
        set_value(file / "config.toml", "device", "cpu")


@pytest.mark.parametrize("line", ['listen = "0.0.0.0:80"', 'api_key_file = "k"', 'allow_host = "x"', 'cors = "*"'])
def test_a_folder_does_not_decide_who_may_reach_the_server(file, own_file, line):
    assert said(file, f"[serve]\n{line}") == (
        f"line 2: serve.{line.partition(' ')[0]} cannot be set for a folder, which may be somebody else's: "
        f"set it in {own_file}."
    )
    own_file.write_text(f"[serve]\n{line}")
    assert len(read_file(own_file)) == 1
    with pytest.raises(SettingError, match="cannot be set for a folder"):
        set_value(file, "serve.listen", "0.0.0.0:80")


def test_a_setting_of_several_values(own_file, tmp_path):
    own_file.write_text('[serve]\ncors = "https://a.example, https://b.example"')
    assert load_settings(tmp_path, {}).defaults_for("serve")["cors"] == ["https://a.example", "https://b.example"]


@pytest.mark.parametrize("place", ["file", "own_file"])
def test_init_writes_a_template_without_effect(place, request):
    file, personal = request.getfixturevalue(place), place == "own_file"
    assert init(file) == template(personal) == file.read_text()
    assert read_file(file) == {}
    with pytest.raises(SettingError, match="exists already"):
        init(file)
    file.write_text(re.sub(r"(?m)^# (\w+ = )", r"\1", file.read_text()))
    settable = {key: setting for key, setting in SETTINGS.items() if personal or not setting.personal}
    assert list(read_file(file)) == list(settable)
    for key, setting in settable.items():
        assert setting.default in (None, read_file(file)[key].value)


def test_find_setting_and_format_value():
    assert find_setting("generate.top_p") is SETTINGS["generate.top_p"]
    assert [format_value(value) for value in (None, True, 0.7, 3, 'a"\\é\n')] == ["", "true", "0.7", "3", r'"a\"\\é\n"']


# Anything

CONTENT = st.one_of(
    st.binary(max_size=200),
    st.lists(
        st.sampled_from(
            [
                "device = 'cpu'",
                "[generate]",
                "[say]",
                "top_p = 0.5 # why",
                "generate.seed = 3",
                "generate = {top_p = 1}",
                "play = true",
                "[generate.x]",
                "[[say]]",
                '"""',
                "x = [",
                "]",
                "",
                "# c",
                "\r",
            ]
        ),
        max_size=8,
    ).map(lambda lines: "\n".join(lines).encode()),
    st.text(alphabet="[]{}=\"'.,#\n\r\t _atprue019-+:", max_size=60).map(str.encode),
)


@FILE_TESTS
@given(CONTENT)
@example(b"\xef\xbb\xbf")
@example(b"[" * 4000)
def test_any_bytes_are_settings_or_one_error(file, content):
    file.write_bytes(content)
    with contextlib.suppress(SettingError):
        assert all(each.setting.accepts(each.value) for each in read_file(file).values())


@FILE_TESTS
@given(CONTENT, st.sampled_from(sorted(SETTINGS)), st.text(max_size=8))
def test_setting_in_any_file_changes_that_one_value_or_nothing(file, content, key, text):
    file.write_bytes(content)
    try:
        before = read_file(file)
        value = set_value(file, key, text)
    except SettingError:
        assert file.read_bytes() == content
        return
    after = read_file(file)
    assert after[key].value in (value, os.path.join(file.parent, os.path.expanduser(str(value))))
    assert {k: r.value for k, r in after.items() if k != key} == {k: r.value for k, r in before.items() if k != key}
    assert [line for line in content.split(b"\n") if line.startswith(b"#") and line not in file.read_bytes()] == []
    unset(file, key)
    assert key not in read_file(file)


@FILE_TESTS
@given(st.dictionaries(st.sampled_from([each.variable for each in SETTINGS.values()]), st.text(max_size=8)))
def test_any_environment_is_settings_or_one_error(tmp_path, environ):
    with contextlib.suppress(SettingError):
        resolved = load_settings(tmp_path, environ).resolved.values()
        assert all(each.value is None or each.setting.accepts(each.value) for each in resolved)


def test_the_local_file_is_in_the_working_folder(tmp_path):
    assert local_file(tmp_path) == tmp_path / "fishcli.toml"
