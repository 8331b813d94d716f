"""`fish download` from a local hub with injected faults."""

import contextlib
import email.utils
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub
from huggingface_hub import close_session, constants

from fishcli.checkpoints import hub, local
from fishcli.checkpoints.download import Damaged, Progress, fetch, plan_download, verify
from fishcli.errors import AuthError, FishError, InputError, ModelMissing, NetworkError, SettingError

REPO = "fishaudio/fish-speech-1.5"
TESTS = Path(__file__).parent


def checkpoint(seed: int = 0, size: int = 200_000) -> dict[str, bytes]:
    """Return the files of a repository, two of which are not needed."""
    uniforms = random.Random(seed)
    sizes = {"config.json": 300, "model.pth": size, "tokenizer.tiktoken": 20_000, "special_tokens.json": 900}
    sizes |= {local.CODEC: 60_000, "README.md": 500, "figure.png": 5_000}
    return {name: uniforms.randbytes(length) for name, length in sizes.items()}


@pytest.fixture
def server(monkeypatch):
    """A local hub in place of the real one, retried without delay."""
    with Hub() as server:
        server.files = checkpoint()
        server.head = server.add(REPO, server.files)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(hub, "FIRST_WAIT", 0.001)
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server
        close_session()


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "model"


def run(folder: Path, revision: str | None = None) -> list:
    """Download, and return the events."""
    return list(fetch(plan_download(REPO, folder, revision)))


def damaged(events: list) -> list[str]:
    return [event.name for event in events if isinstance(event, Damaged)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def needed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: files[name] for name in local.FILES if name in files}


def left_in_state(folder: Path) -> set[str]:
    return {path.name for path in (folder / local.STATE).iterdir()}


# What it does


def test_only_the_needed_files_arrive_and_nothing_else_is_left(server, folder):
    run(folder)
    assert contents(folder) == needed(server.files)
    assert left_in_state(folder) == {"record.json", "lock"}
    assert local.find(folder).path == folder


def test_the_default_is_the_data_folder_under_the_repository_name(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FISHCLI_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    list(fetch(plan_download()))
    assert local.find() == local.Found(tmp_path / "models" / REPO, REPO)


def test_progress_counts_up_to_each_file_size(server, folder):
    events = run(folder)
    for name, content in needed(server.files).items():
        for stage in ("download", "verify"):
            counts = [
                event.done
                for event in events
                if isinstance(event, Progress) and (event.name, event.stage) == (name, stage)
            ]
            assert counts == sorted(counts)
            assert counts[-1] == len(content)


def test_the_plan_has_the_sizes_and_writes_nothing(server, folder):
    plan = plan_download(REPO, folder)
    assert plan.size == plan.missing == sum(map(len, needed(server.files).values()))
    assert plan.record.commit == server.head
    assert not folder.exists()
    run(folder)
    assert plan_download(REPO, folder).missing == 0


def test_a_second_download_needs_no_network(server, folder):
    run(folder)
    server.requests.clear()
    assert damaged(run(folder)) == []
    assert server.requests == []


def test_the_first_commit_is_kept_until_another_one_is_requested(server, folder):
    run(folder)
    newer = server.files | {"config.json": b"x" * 300}
    commit = server.add(REPO, newer)
    run(folder)
    assert contents(folder) == needed(server.files)
    server.sent.clear()
    assert damaged(run(folder, "main")) == []
    assert contents(folder) == needed(newer)
    assert dict(server.sent) == {"config.json": 300}, "only what differs is fetched"
    server.requests.clear()
    run(folder, commit)
    assert server.requests == [], "the commit that is here needs no question"


def test_an_unfinished_download_is_finished_at_its_own_commit(server, folder):
    events = fetch(plan_download(REPO, folder))
    next(event for event in events if event.name == "model.pth")
    events.close()
    server.add(REPO, checkpoint(seed=1))
    run(folder)
    assert contents(folder) == needed(server.files)


def test_a_file_that_the_new_commit_lacks_is_removed(server, folder):
    server.add(REPO, server.files | {"codec.json": b"{}"})
    run(folder)
    assert (folder / "codec.json").exists()
    server.add(REPO, server.files)
    run(folder, "main")
    assert contents(folder) == needed(server.files)


def test_existing_files_are_verified_and_kept(server, folder):
    folder.mkdir()
    for name, content in needed(server.files).items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_bytes(b"x" * 300)
    run(folder)
    assert contents(folder) == needed(server.files)
    assert set(server.sent) == {"config.json"}


def test_a_link_is_replaced_and_not_written_through(server, folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"x" * 300)
    folder.mkdir()
    (folder / "config.json").symlink_to(elsewhere)
    run(folder)
    assert elsewhere.read_bytes() == b"x" * 300
    assert not (folder / "config.json").is_symlink()


def test_the_token_is_sent_to_the_hub_and_nowhere_else(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    run(folder)
    for path, headers in server.requests:
        expected = None if path.startswith("/cdn/") else "Bearer hf_secret"
        assert headers.get("authorization") == expected, path


# What goes wrong on the way


@pytest.mark.parametrize("name", ["config.json", "model.pth"])
@pytest.mark.parametrize("kind", ["cut", "truncate", "whole", "slow", 503, 500, 408, 429])
def test_temporary_faults_of_the_hub_are_retried(server, folder, name, kind):
    server.fault(name, kind, times=3)
    assert damaged(run(folder)) == []
    assert contents(folder) == needed(server.files)


@pytest.mark.parametrize("name", ["config.json", "model.pth", local.CODEC])
@pytest.mark.parametrize("kind", ["corrupt", "longer"])
def test_wrong_bytes_are_reported_and_downloaded_again(server, folder, name, kind):
    server.fault(name, kind, times=2)
    assert damaged(run(folder)) == [name, name]
    assert contents(folder) == needed(server.files)


@pytest.mark.parametrize("kind", ["corrupt", "longer", "truncate", "cut", 503])
def test_a_hub_that_never_sends_the_file_right_is_one_clear_sentence(server, folder, kind):
    server.fault("model.pth", kind)
    message = (
        "model.pth arrived damaged 3 times"
        if kind in ("corrupt", "longer")
        else "The next download continues from here"
    )
    with pytest.raises(NetworkError, match=message):
        run(folder)
    assert local.fault(folder) == "its download is not finished"
    server.faults.clear()
    run(folder)
    assert contents(folder) == needed(server.files)


def test_the_api_is_retried_after_a_failure(server, folder):
    server.fault("api", 503, times=3)
    run(folder)
    assert contents(folder) == needed(server.files)


def test_resume_fetches_only_the_rest(server, folder):
    server.fault("model.pth", "slow")
    events = fetch(plan_download(REPO, folder))
    next(event for event in events if event.name == "model.pth" and event.done > 100_000)
    events.close()
    plan = plan_download(REPO, folder)
    here = plan.here["model.pth"]
    assert here > 100_000
    assert plan.missing == plan.size - here - plan.here["config.json"]
    server.faults.clear()
    server.requests.clear()
    run(folder)
    assert {headers.get("range") for path, headers in server.requests if "model.pth" in path} == {f"bytes={here}-"}
    assert not any("config.json" in path for path, _ in server.requests), "complete files are kept"
    assert contents(folder) == needed(server.files)


def test_a_wrong_beginning_is_not_resumed_into_a_wrong_file(server, folder):
    plan = plan_download(REPO, folder)
    model = next(file for file in plan.record.files if file.name == "model.pth")
    (folder / local.STATE).mkdir(parents=True)
    (folder / local.STATE / f"{model.digest.partition(':')[2]}.part").write_bytes(b"x" * 1000)
    assert damaged(run(folder)) == ["model.pth"]
    assert contents(folder) == needed(server.files)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(server, folder, form):
    when = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
    server.fault("config.json", 503, times=1, Retry_After=when)
    start = time.monotonic()
    run(folder)
    assert time.monotonic() - start > 0.9


@pytest.mark.parametrize(
    "when",
    [
        "Mon, 1 Jan 99999 00:00:00 GMT",
        "Mon, 1 Jan 0 00:00:00 GMT",
        "Mon, 99 Foo 2026 99:99:99 GMT",
        "soon",
        "-1",
        "1.5",
    ],
)
def test_a_time_to_wait_that_is_none_is_ignored(server, folder, when):
    server.fault("config.json", 503, times=1, Retry_After=when)
    run(folder)


def test_a_hub_that_trickles_is_given_up(server, folder, monkeypatch):
    """Each of its bytes comes in time, and each try makes some progress."""
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    monkeypatch.setattr(hub, "LEAST_RATE", 1_000_000)
    server.fault("tokenizer.tiktoken", "trickle")
    with pytest.raises(NetworkError, match=r"sent only \d+ bytes in 0 s; check the connection"):
        run(folder)


@pytest.mark.parametrize(
    ("endpoint", "warned"),
    [
        ("http://hub.test", True),
        ("http://10.0.0.7:8080/hf", True),
        ("http://localhost.hub.test", True),
        ("http://localhost:8080", False),
        ("http://127.0.0.1", False),
        ("http://[::1]:80", False),
        ("https://hub.test", False),
    ],
)
def test_a_token_over_plain_http_is_a_warning(caplog, endpoint, warned):
    hub._warn_of_plain_http.cache_clear()
    hub._warn_of_plain_http(endpoint)
    hub._warn_of_plain_http(endpoint)
    assert [endpoint in each.getMessage() for each in caplog.records] == [True] * warned


def test_a_hub_that_asks_for_an_hour_is_an_error_at_once(server, folder):
    server.fault("api", 429, Retry_After="3600")
    with pytest.raises(NetworkError, match="answered 429 and asks to wait 3600 s"):
        run(folder)


def test_wrong_bytes_on_the_disk_are_reported_and_downloaded_again(server, folder):
    run(folder)
    wrong = bytearray((folder / "model.pth").read_bytes())
    wrong[1234] ^= 1
    (folder / "model.pth").write_bytes(wrong)
    assert damaged(list(verify(folder))) == ["model.pth"]
    server.requests.clear()
    assert damaged(run(folder)) == ["model.pth"]
    assert contents(folder) == needed(server.files)
    assert damaged(list(verify(folder))) == []
    assert not any(path.startswith("/api/") for path, _ in server.requests), "the record has the digests"


def test_a_folder_that_is_known_to_be_damaged_is_not_used(server, folder):
    run(folder)
    (folder / "model.pth").write_bytes(bytes(len(server.files["model.pth"])))
    server.fault("model.pth", 503)
    with pytest.raises(NetworkError):
        run(folder)
    with pytest.raises(local.IncompleteModel, match="its download is not finished"):
        local.find(folder)


def test_an_interrupted_update_leaves_the_old_commit_in_use(server, folder):
    run(folder)
    server.add(REPO, checkpoint(seed=1))
    server.fault("model.pth", 503)
    with pytest.raises(NetworkError):
        run(folder, "main")
    assert local.find(folder).path == folder
    assert contents(folder) == needed(server.files)


# Errors


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ((401, "GatedRepo"), AuthError, "accept its licence at {url}/fishaudio/fish-speech-1.5 and set HF_TOKEN"),
        ((403, "GatedRepo"), AuthError, "accept its licence at {url}/fishaudio/fish-speech-1.5 and set HF_TOKEN"),
        ((401, ""), AuthError, "set HF_TOKEN to a token from {url}/settings/tokens"),
        ((401, "RepoNotFound"), ModelMissing, "has no repository fishaudio/fish-speech-1.5 that you can access"),
        ((404, ""), ModelMissing, "has no repository fishaudio/fish-speech-1.5 that you can access"),
        ((404, "RevisionNotFound"), ModelMissing, "has no revision "),
        ((418, ""), NetworkError, "{url} answered 418"),
    ],
)
@pytest.mark.parametrize("name", ["api", "config.json", "model.pth"])
def test_a_rejection_is_one_clear_sentence(server, folder, name, fault, error, message):
    server.fault(name, fault[0], **{"X-Error-Code": fault[1]})
    with pytest.raises(error, match=re.escape(message.format(url=server.url))) as raised:
        run(folder)
    assert "\n" not in str(raised.value)
    assert local.fault(folder) is not None


def test_a_missing_repository_or_revision_is_named(server, folder):
    with pytest.raises(ModelMissing, match="has no repository owner/absent that you can access"):
        plan_download("owner/absent", folder)
    with pytest.raises(ModelMissing, match="has no revision v9/x on"):
        plan_download(REPO, folder, "v9/x")
    assert not folder.exists()


@pytest.mark.parametrize("repo", ["absent", "a/b/c", "../b", "a/..", "a/b?c", ""])
def test_an_invalid_repository_is_a_setting_error(repo, folder):
    with pytest.raises(SettingError, match="A repository is OWNER/NAME"):
        plan_download(repo, folder)


def test_a_repository_without_a_checkpoint_is_rejected(server, folder):
    server.add("owner/other", {"config.json": b"{}", "model.safetensors": b""})
    with pytest.raises(ModelMissing, match=r"it lacks model\.pth, tokenizer.tiktoken"):
        plan_download("owner/other", folder)


def test_a_login_page_is_not_a_hub(server, folder):
    server.fault("api", "portal")
    with pytest.raises(NetworkError, match="does not answer as a hub;"):
        run(folder)


@pytest.mark.parametrize("answer", [b"[" * 200_000, b"\xff", b" " * hub.MAX_ANSWER + b"{}"], ids=len)
def test_an_answer_other_than_small_json_is_not_a_hub(answer, folder, monkeypatch):
    with listening_once(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + answer) as url:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        with pytest.raises(NetworkError, match=f"^{url} does not answer as a hub; check HF_ENDPOINT.$"):
            run(folder)


@contextlib.contextmanager
def listening_once(answer: bytes) -> Iterator[str]:
    """Serve one request with that answer, and yield the URL."""

    def serve() -> None:
        visitor, _ = server.accept()
        with visitor, contextlib.suppress(OSError):  # the client may close early
            visitor.recv(65_536)
            visitor.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()
    close_session()


def test_no_network_is_one_clear_sentence(server, folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(
        NetworkError, match=r"^The connection to http://127.0.0.1:1 failed \(.*\); check the connection"
    ):
        run(folder)


@pytest.mark.parametrize("endpoint", ["huggingface.co", "http://", "ftp://host", "http://[", "http://a b"])
def test_an_invalid_endpoint_is_a_setting_error(endpoint, folder, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(SettingError, match="HF_ENDPOINT must be a URL"):
        run(folder)


def test_a_full_disk_is_an_error_before_the_download(server, folder):
    server.sizes["model.pth"] = 10**15
    with pytest.raises(InputError, match=r"needs 1000000\.\d\d GB in .*, but only [\d.]+ GB are free"):
        run(folder)
    assert server.sent == {}


@pytest.mark.skipif(os.name == "nt", reason="needs a file-size limit")
def test_a_write_that_fails_is_one_clear_sentence(server, folder):
    # A limit on file sizes simulates a full disk.
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    assert in_process(server, folder, code) == (
        1,
        f"Cannot write to {folder} (File too large).",
    )
    run(folder)
    assert contents(folder) == needed(server.files)


def test_a_folder_that_is_a_file_is_one_clear_sentence(server, folder):
    folder.write_bytes(b"")
    with pytest.raises(InputError, match=r"Cannot write to .*model \(.*\)"):
        run(folder)


def test_verify_needs_a_record(folder):
    with pytest.raises(InputError, match="has no record of a download to verify it against"):
        list(verify(folder))


# Several processes, and the environment


PROGRAM = """
import sys
from pathlib import Path
from fishcli import errors
from fishcli.checkpoints import download
{code}
try:
    for event in download.fetch(download.plan_download({repo!r}, Path(sys.argv[1]))):
        pass
except errors.FishError as error:
    print(error)
    raise SystemExit(error.exit_code)
"""


def start(server: Hub, folder: Path, code: str = "", **variables: str) -> subprocess.Popen:
    """Start a download in another process."""
    environment = os.environ | {"HF_ENDPOINT": server.url, "NO_PROXY": "*"} | variables
    program = PROGRAM.format(code=code, repo=REPO)
    command = [sys.executable, "-c", program, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=TESTS.parent)


def in_process(server: Hub, folder: Path, code: str = "", **variables: str) -> tuple[int, str]:
    with start(server, folder, code, **variables) as process:
        output, _ = process.communicate(timeout=60)
    return process.returncode, output.strip()


def test_the_environment_names_hub_and_token(server, folder):
    assert in_process(server, folder, HF_TOKEN="hf_secret") == (0, "")
    assert contents(folder) == needed(server.files)
    assert server.requests[0][1]["authorization"] == "Bearer hf_secret"
    assert all(path.startswith(("/api/models/", f"/{REPO}/", "/cdn/")) for path, _ in server.requests), "no telemetry"


def test_offline_is_an_error_and_a_complete_folder_needs_no_network(server, folder):
    code, message = in_process(server, folder, HF_HUB_OFFLINE="1")
    assert (code, message) == (
        5,
        f"HF_HUB_OFFLINE is set, but {REPO} is not downloaded completely; unset it to download.",
    )
    run(folder)
    assert in_process(server, folder, HF_HUB_OFFLINE="1") == (0, "")


def test_concurrent_downloads_do_not_corrupt_each_other(server, folder):
    server.fault("model.pth", "slow")
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(start(server, folder)) for _ in range(3)]
        results = [(process.communicate(timeout=60)[0], process.returncode) for process in processes]
    assert ("", 0) in results
    waiting = f"Another download is writing to {folder}; wait until it has finished.\n"
    assert set(results) <= {("", 0), (waiting, 1)}
    assert contents(folder) == needed(server.files)


def test_the_lock_is_released_when_a_download_stops(server, folder):
    first, second = fetch(plan_download(REPO, folder)), fetch(plan_download(REPO, folder))
    next(first)
    with pytest.raises(InputError, match="Another download"):
        next(second)
    first.close()
    run(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_kill_9_leaves_no_corrupt_file_in_use_and_the_next_run_repairs():
    kills = os.environ.get("FISHCLI_TEST_KILLS", "20")
    command = [sys.executable, TESTS / "kill_download.py", kills]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "NO_PROXY": "*"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{kills} kills" in result.stdout


def test_every_error_has_the_exit_code_of_its_kind():
    codes = {InputError: 1, SettingError: 2, ModelMissing: 3, AuthError: 4, NetworkError: 5}
    assert all(issubclass(kind, FishError) and kind.exit_code == code for kind, code in codes.items())
