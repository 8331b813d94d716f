"""Jobs and servers on a Ray cluster. Ray takes ten seconds to start, so what needs it is marked slow."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import pytest

from fishcli.jobs import ray_cluster
from fishcli.jobs.ray_cluster import Cluster, Recipe

TEXT = "One sentence stands here, and no other."
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--address", "auto"], 2, "--address belongs to --engine ray; add it."),
        (["--engine", "dask"], 2, "--engine must be one of local, ray, not dask."),
    ],
)
@pytest.mark.parametrize("command", [["serve"], ["batch", "job.txt"]])
def test_a_mistake_is_one_sentence(fish, tmp_path, command, arguments, code, said):
    (tmp_path / "job.txt").write_text(TEXT)
    ran = fish(*command, *arguments)
    assert (ran.code, ran.err) == (code, f"error: {said}\n")


@pytest.mark.parametrize(
    ("command", "option"), [(["serve"], "--replicas"), (["batch", "job.txt"], "--workers")], ids=["serve", "batch"]
)
def test_the_number_of_workers_belongs_to_ray(fish, command, option):
    ran = fish(*command, option, "2")
    assert (ran.code, ran.err) == (2, f"error: {option} belongs to --engine ray; add it.\n")


@pytest.mark.parametrize("command", [["serve", "--listen", "0"], ["batch", "job.txt"]], ids=["serve", "batch"])
def test_a_missing_extra_is_one_sentence(fish, tmp_path, monkeypatch, command):
    (tmp_path / "job.txt").write_text(TEXT)
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = fish(*command, "--engine", "ray", "--checkpoint-path", "built-in", "-q")
    assert ran.code == 1
    assert ran.err == "error: Ray is not installed; run `pip install 'fishcli[ray]'`.\n"


@pytest.mark.parametrize(
    ("cpus", "gpus", "recipe", "places", "share"),
    [
        (8, 0, Recipe(), 8, {"num_cpus": 1, "num_gpus": 0}),
        (8, 0, Recipe(threads=3), 2, {"num_cpus": 3, "num_gpus": 0}),
        (8, 2, Recipe(), 2, {"num_cpus": 1, "num_gpus": 1}),
        (8, 2, Recipe(device="cpu"), 8, {"num_cpus": 1, "num_gpus": 0}),
        (1, 0, Recipe(threads=4), 1, {"num_cpus": 4, "num_gpus": 0}),
    ],
)
def test_a_worker_reserves_its_device(cpus, gpus, recipe, places, share):
    cluster = Cluster(None, cpus, gpus)
    assert (cluster.places(recipe), cluster.share(recipe)) == (places, share)


# What follows starts Ray.


def descendants(pid: int) -> dict[int, str]:
    """The processes below one, each with its time of start: a number may come again."""
    known = {}
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            known[int(each.name)] = started(int(each.name))
    found = {pid}
    for _ in range(8):
        found |= {child for child, (parent, _) in known.items() if parent in found}
    return {each: known[each][1] for each in found - {pid}}


def started(pid: int) -> tuple[int, str]:
    """The parent of a process, and when it was started. Raises OSError for one that is gone, or has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError
    return int(fields[1]), fields[19]


def left_of(processes: dict[int, str]) -> list[str]:
    """The command lines of those processes that still run."""
    left = []
    for pid, when in processes.items():
        with contextlib.suppress(OSError):
            if started(pid)[1] == when:
                left.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    return left


def wait_until_gone(processes: dict[int, str], seconds: float) -> None:
    end = time.monotonic() + seconds
    while left := left_of(processes):
        assert time.monotonic() < end, left
        time.sleep(0.2)


def command(*arguments: object, env: dict[str, str] | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "fishcli", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **(env or {})},
    )  # fmt: skip


@contextlib.contextmanager
def running(*arguments: object, env: dict[str, str] | None = None):
    process = command(*arguments, env=env)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def a_job(folder: Path, lines: int) -> Path:
    path = folder / "job.jsonl"
    texts = [f"This is line number {number} of the job." for number in range(1, lines + 1)]
    path.write_text("".join(json.dumps({"id": f"l{n}", "text": text}) + "\n" for n, text in enumerate(texts, 1)))
    return path


def manifest(folder: Path) -> list[dict]:
    """The lines of a manifest, times left out."""
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "made_at"} for line in lines]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.wav")}


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster.connected(cpus=2) as cluster:
        yield cluster


@needs_ray
@pytest.mark.slow
def test_two_workers_make_the_files_of_one_process(tmp_path, fish, micro):
    sound = tmp_path / "reference.wav"
    shutil.copy(Path(ray_cluster.__file__).parents[1] / "assets/tiny/reference.wav", sound)
    job = a_job(tmp_path, 12)
    with job.open("a") as file:
        file.write(json.dumps({"id": "own", "text": TEXT, "ref": [str(sound)], "ref_text": ["Some words."]}) + "\n")
    common = [job, "--checkpoint-path", micro, "--max-new-tokens", "40", "--check", "off", "--json"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert fish("batch", *common, "-o", alone, "--threads", "1").code == 0
    with running("batch", *common, "-o", together, "--engine", "ray", "--workers", "2") as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(files(alone)) == 13
    assert files(together) == files(alone)
    assert manifest(together) == manifest(alone)
    assert [json.loads(line) for line in out.splitlines()]  # and nothing of Ray's
    assert "ray" not in err.lower()


@pytest.fixture
def job():
    """Settings, the lines of a job, and the identity of the built-in voice."""
    from fishcli.jobs.identity import ModelIdentity
    from fishcli.jobs.line import Line
    from fishcli.jobs.settings import JobSettings

    settings = JobSettings(check="off")
    lines = [Line(f"l{n}", f"This is line number {n} of the job, and it is spoken.", n) for n in range(1, 41)]
    return settings, [settings.complete(line) for line in lines], ModelIdentity.of("built-in")


def pid_of(cluster: Cluster, worker) -> int:
    return cluster.ray.get(worker.__ray_call__.remote(lambda self: os.getpid()))


@needs_ray
@pytest.mark.slow
def test_the_lines_of_a_killed_worker_are_made_by_the_others(cluster, job):
    from fishcli.jobs import local, ray_runner
    from fishcli.jobs.render import Renderer
    from fishcli.voices import Library

    settings, lines, model = job
    recipe, library = Recipe("built-in"), Library()
    made = {}
    with ray_runner.workers(cluster, recipe, settings, 2) as workers:
        for result in ray_runner.run(cluster, workers, lines, library, settings, model):
            if len(made) in (2, 20):
                os.kill(pid_of(cluster, workers[len(made) // 20]), signal.SIGKILL)
            assert result.line.id not in made
            made[result.line.id] = result.sound
    alone = local.run(Renderer(recipe.load(), library, settings), lines, 8)
    expected = {result.line.id: result.sound.data for result in alone}
    assert len(expected) == 40
    assert {id: sound.data for id, sound in made.items()} == expected


@needs_ray
@pytest.mark.slow
def test_a_line_that_takes_its_workers_along_is_given_up_and_a_voice_that_is_gone_is_named(cluster, job):
    from ray.exceptions import RayError

    from fishcli.jobs import ray_runner
    from fishcli.voices import Library

    settings, lines, model = job
    long = dataclasses.replace(lines[0], text=" ".join([TEXT] * 80))
    lost = dataclasses.replace(lines[1], voice="nobody")
    with ray_runner.workers(cluster, Recipe("built-in"), settings, 1) as workers:
        run = ray_runner.run(cluster, workers, [long, lost, *lines[2:6]], Library(), settings, model)
        results = {}

        def kill_it_again_and_again():
            while long.id not in results:
                time.sleep(1)
                with contextlib.suppress(RayError):  # it is being started again
                    speaking = workers[0].__ray_call__.remote(lambda self: self._renderer._engine.stats.running)
                    if cluster.ray.get(speaking):
                        os.kill(pid_of(cluster, workers[0]), signal.SIGKILL)

        killer = threading.Thread(target=kill_it_again_and_again)
        for result in run:
            if len(results) == 4 and not killer.is_alive():  # all but the long one
                killer.start()
            results[result.line.id] = result
        killer.join()
    assert results[long.id].error == "it was given up: 3 workers were lost while they spoke it"
    assert results[lost.id].error.startswith("There is no voice 'nobody'")
    assert all(results[line.id].sound for line in lines[2:6])


@needs_ray
@pytest.mark.slow
def test_what_cannot_run_is_told_at_once(cluster, job):
    from fishcli.errors import FishError, SettingError
    from fishcli.jobs import ray_runner
    from fishcli.voices import Library

    settings, lines, model = job
    too_many = ray_runner.workers(cluster, Recipe("built-in"), settings, 3)
    with pytest.raises(SettingError, match="There is room for 2 workers on the cluster, not for 3"), too_many:
        pass
    for recipe, expected, said in [
        (Recipe("absent"), model, "absent"),
        (Recipe("built-in"), dataclasses.replace(model, digest="0" * 64), "is another one than here"),
    ]:
        with ray_runner.workers(cluster, recipe, settings, 1) as workers, pytest.raises(FishError, match=said):
            list(ray_runner.run(cluster, workers, lines[:1], Library(), settings, expected))


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_driver(tmp_path, number):
    arguments = [a_job(tmp_path, 400), "--checkpoint-path", "built-in", "-o", tmp_path / "out"]
    with running("batch", *arguments, "--engine", "ray", "--workers", "2") as process:
        end = time.monotonic() + 200
        while not files(tmp_path / "out"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.1)
        processes = descendants(process.pid)
        assert len(processes) > 5
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        code = process.wait(60)
        assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
        wait_until_gone(processes, 100)  # Ray's agents look for a killed driver for a minute
        made = len(files(tmp_path / "out"))
    assert 0 < made < 400
    assert made - 1 <= len(manifest(tmp_path / "out")) - 1 <= made + 1


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The address of a cluster that others started: two CPUs of this machine."""
    place = Path(tempfile.mkdtemp(prefix="ray-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The switch keeps the cluster on the loopback address; without it a driver looks for it on another one.
    shared = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment = {**os.environ, **shared, "RAY_USAGE_STATS_ENABLED": "0"}
    ray = Path(sys.executable).with_name("ray")
    process = subprocess.Popen(
        [ray, "start", "--head", "--block", "--port", str(port), "--num-cpus", "2", "--include-dashboard", "false",
         "--object-store-memory", "100000000", "--temp-dir", str(place)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=environment,
    )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.2)
        yield f"127.0.0.1:{port}", shared
    finally:
        processes = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        wait_until_gone(processes, 100)
        shutil.rmtree(place, ignore_errors=True)


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["batch", "serve"])
def test_on_a_cluster_of_others_nothing_is_left_after_a_killed_driver(tmp_path, head, kind):
    address, environment = head
    job = [a_job(tmp_path, 400), "-o", tmp_path / "out", "--workers", "2"]
    arguments = {"batch": job, "serve": ["--listen", "0", "--replicas", "2", "--json"]}[kind]
    common = ["--checkpoint-path", "built-in", "--engine", "ray", "--address", address]
    with running(kind, *arguments, *common, env=environment) as process:
        end = time.monotonic() + 200
        if kind == "serve":
            assert json.loads(process.stdout.readline())["replicas"] == 2
        while kind == "batch" and not files(tmp_path / "out"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.1)
        workers = [pid for pid in all_pids() if is_ours(pid, kind)]
        assert len(workers) >= 2
        process.kill()
        end = time.monotonic() + 100
        while [pid for pid in all_pids() if is_ours(pid, kind)]:
            assert time.monotonic() < end
            time.sleep(0.5)


def all_pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").glob("[0-9]*")]


def is_ours(pid: int, kind: str) -> bool:
    names = {"batch": b"ray::Worker", "serve": b"ray::Serve"}
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(names[kind])
    return False


@needs_ray
@pytest.mark.slow
def test_an_address_without_a_cluster_is_one_sentence(tmp_path):
    (tmp_path / "job.txt").write_text(TEXT)
    with running(
        "batch", tmp_path / "job.txt", "-o", tmp_path / "out", "--checkpoint-path", "built-in",
        "--engine", "ray", "--address", "127.0.0.1:9", "-q",
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (5, "")
    assert err.startswith("error: There is no Ray cluster at 127.0.0.1:9 (")
    assert len(err.splitlines()) == 1


@needs_ray
@pytest.mark.slow
def test_replicas_serve_one_address():
    import ormsgpack
    from websockets.sync.client import connect

    with running("serve", "--engine", "ray", "--replicas", "2", "--listen", "0", "--json") as process:
        url = json.loads(process.stdout.readline())["url"]
        body = {"text": " ".join([TEXT] * 3), "seed": 1, "streaming": True, "format": "wav"}
        sounds, pieces, seen = [], [], set()

        def speak():
            with httpx.stream("POST", f"{url}/v1/tts", json=body, timeout=120) as answer:
                assert answer.status_code == 200
                pieces.append(list(answer.iter_raw()))
                sounds.append(b"".join(pieces[-1]))

        threads = [threading.Thread(target=speak) for _ in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(sounds) == 6
        assert len(set(sounds)) == 1
        assert all(len(each) > 5 for each in pieces)
        for _ in range(60):
            metrics = httpx.get(f"{url}/metrics").text
            seen.add(next(line for line in metrics.splitlines() if line.startswith("process_start_time_seconds")))
        assert len(seen) == 2
        with connect(f"{url.replace('http', 'ws')}/v1/tts/live", proxy=None) as live:
            for event in (
                {"event": "start", "request": {"text": ""}},
                {"event": "text", "text": TEXT},
                {"event": "stop"},
            ):
                live.send(ormsgpack.packb(event))
            said = [ormsgpack.unpackb(message)["event"] for message in live]
        assert said[0] == "audio"
        assert said[-1] == "finish"
        assert httpx.get(f"{url}/v1/tts").status_code == 405
        assert httpx.get(f"{url}/v1/health", headers={"Host": "evil.example"}).status_code == 421
        processes = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        wait_until_gone(processes, 30)
        assert process.stdout.read() == ""
