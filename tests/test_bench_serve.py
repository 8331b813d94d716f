"""`fish bench --serve`: the plan and the summary by example, and real loads, on our server and on hostile ones."""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading

import pytest
from serving import serving

from fishcli.bench import http_load, own_server, serve
from fishcli.bench.http_load import Load, Received, Run, Sound, Target, plan
from fishcli.bench.player import Percentiles
from fishcli.cli import bench_serve
from fishcli.cli.options import ModelOptions
from fishcli.engine import load
from fishcli.errors import FishError, NetworkError, SettingError

# Pure parts.


def test_a_plan_is_repeated_by_its_seed_and_has_no_prompt_twice():
    orders = plan(Load(2, 20, arrivals=5.0, seed=3))
    assert orders == plan(Load(2, 20, arrivals=5.0, seed=3))
    assert len({order.text for order in orders}) == len({order.seed for order in orders}) == 20
    assert [order.due for order in orders] == sorted(order.due for order in orders)
    assert {order.due for order in plan(Load(2, 20))} == {0.0}
    texts = {order.text for seed in (0, serve._APART) for order in plan(Load(1, 50, seed=seed))}
    assert len(texts) == 100


@pytest.mark.parametrize(
    ("url", "base", "route"),
    [
        ("http://host:8080", "http://host:8080", "/v1/tts"),
        ("http://host:8080/", "http://host:8080", "/v1/tts"),
        ("http://host:8080/v1/tts", "http://host:8080", "/v1/tts"),
        ("https://host/proxy/v1/audio/speech", "https://host/proxy", "/v1/audio/speech"),
    ],
)
def test_targets(url, base, route):
    target = Target(url)
    assert (target.base, target.route) == (base, route)


@pytest.mark.parametrize("url", ["host:8080", "ftp://host", "http://", "Hello."])
def test_what_is_no_url(url):
    with pytest.raises(SettingError, match="is no URL"):
        Target(url)


def wav(rate: int, width: int, size: int = 0) -> bytes:
    return b"RIFF\0\0\0\0WAVEfmt " + b"".join(
        value.to_bytes(length, "little")
        for value, length in [(16, 4), (1, 2), (1, 2), (rate, 4), (rate * width, 4), (width, 2), (8 * width, 2)]
    ) + b"data" + size.to_bytes(4, "little")  # fmt: skip


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (b"\1\2" * 24_000, 1.0),
        (b"R" + b"\2" * 11_999, 0.25),
        (wav(8_000, 2) + b"\1" * 8_000, 0.5),
        (wav(8_000, 4) + b"\1" * 8_000, 0.25),
        (wav(8_000, 2)[:30], 0.0),
    ],
    ids=["pcm", "pcm that begins with an R", "wav", "wav of floats", "half a header"],
)
def test_seconds_of_audio(data, seconds, step):
    sound = Sound(24_000)
    assert sum(sound.seconds(data[i : i + step]) for i in range(0, len(data), step)) == pytest.approx(seconds)


def received(requested, pieces, error=None):
    return Received("text", 0, requested, requested, 200, pieces=pieces, error=error)


def test_summary():
    run = Run(
        [
            received(0.0, [(0.1, 0.5), (0.5, 0.5)]),
            received(1.0, [(1.3, 0.5), (1.85, 0.5)]),  # 50 ms late, which is not heard
            received(1.0, [(1.5, 0.5), (2.25, 1.0)]),
            received(1.0, [(1.2, 0.5)], "timeout"),
            received(2.0, [], "429"),
            received(2.0, [], "429"),
        ],
        health=[(0.1, 0.001), (0.2, 0.003)],
        memory=[100, 300, 200],
        seconds=4.0,
        client_cpu=1.0,
    )
    heard = serve.summary(Load(3, 6), run)
    assert heard.time_to_first_audio == Percentiles.of([0.1, 0.3, 0.5, 0.2])
    assert heard.errors == {"timeout": 1, "429": 2}
    assert (heard.continuous, heard.gaps_over_100_ms) == (2, 1)
    assert heard.longest_gap == pytest.approx(0.25)
    assert heard.audio_seconds_per_second == heard.real_time_streams == 1.0
    assert heard.health == Percentiles.of([0.001, 0.003])
    assert (heard.memory, heard.client_cpu) == (300, 0.25)
    nothing = serve.summary(Load(1, 1), Run([received(0.0, [], "refused")], seconds=1.0))
    assert (nothing.time_to_first_audio, nothing.health, nothing.memory, nothing.continuous) == (None, None, None, 0)


def test_memory_in_metrics():
    assert http_load.memory(b"# HELP x\nprocess_resident_memory_bytes 4.5e+08\nother 1\n") == [450_000_000]
    assert http_load.memory(b"404 not found") == []


def test_the_model_of_a_server_is_the_one_asked_for(tmp_path):
    model = ModelOptions("built-in", tmp_path / "a.pth", "cpu", half=True, compile=False, threads=1)
    words = bench_serve._arguments(model)
    assert words[:4] == ["--checkpoint-path", "built-in", "--codec-path", str(tmp_path / "a.pth")]
    assert {"--half", "--no-compile", "--threads"} <= set(words)
    assert "--kv-memory" not in words
    loading = bench_serve._loading(model)
    assert json.loads(json.dumps(loading)) == loading
    assert (loading["model"], loading["dtype"], loading["compile"]) == ("built-in", "float16", False)
    assert load("built-in", **{k: v for k, v in bench_serve._loading(ModelOptions()).items() if k != "model"}).healthy


# Our server.


@pytest.fixture(scope="module")
def server(micro, tmp_path_factory):
    with serving(load(micro, threads=1), tmp_path_factory.mktemp("voices")) as running:
        yield running


@pytest.mark.parametrize("arrivals", [None, 50.0], ids=["closed loop", "open loop"])
@pytest.mark.parametrize("form", ["pcm", "wav"])
def test_our_server(server, form, arrivals, monkeypatch):
    monkeypatch.setattr(http_load, "FRAMES", 12)
    run = http_load.run(Target(server.url, format=form), Load(2, 3, arrivals))
    assert [each.error for each in run.received] == [None] * 3
    assert all(each.status == 200 and each.first_byte is not None for each in run.received)
    for each in run.received:
        assert each.requested <= each.sent <= each.first_byte <= each.pieces[0][0] <= each.ended
    frames = 12 / server.engine.frame_rate
    assert all(0 < sum(seconds for _, seconds in each.pieces) <= 1.01 * frames for each in run.received)
    assert run.memory
    assert run.memory[0] > 0


def test_openai_route(server, monkeypatch):
    monkeypatch.setattr(http_load, "TEXT", "One.")  # this route cannot limit the frames
    run = http_load.run(Target(f"{server.url}/v1/audio/speech"), Load(1, 1))
    assert run.received[0].error is None
    assert run.received[0].pieces
    assert run.health


def test_measure_keeps_every_time(server, monkeypatch):
    monkeypatch.setattr(http_load, "FRAMES", 8)
    served = serve.measure(Target(server.url), Load(2, 4), repeat=2)
    assert (served.load.requests, served.load.errors, served.alone.requests) == (4, {}, 2)
    raw = json.loads(json.dumps(served.raw))
    assert (len(raw["load"]["received"]), len(raw["alone"]["received"])) == (4, 2)
    assert raw["load"]["received"][0].keys() >= {"sent", "first_byte", "pieces", "ended", "status", "error", "seed"}
    assert serve.measure(Target(server.url), Load(1, 1), repeat=1).alone is None


# Servers that fail.


@contextlib.contextmanager
def answering(answer):
    """Run a server that answers each connection with `await answer(number, writer)`, and yield its URL."""
    loop, numbers, connections = asyncio.new_event_loop(), iter(range(1000)), set()

    async def serve_one(reader, writer):
        connections.add(asyncio.current_task())
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            # What is left unread when a socket closes resets the connection, and the client may lose the answer.
            length = re.search(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            if head.startswith(b"POST"):
                await answer(next(numbers), writer)
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    started = loop.run_until_complete(asyncio.start_server(serve_one, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def end():
        started.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # in which the connections are closed

    try:
        yield f"http://127.0.0.1:{started.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nX-Sample-Rate: 8000\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
HALF_A_SECOND = b"1f40\r\n" + bytes(8000) + b"\r\n"
END = b"0\r\n\r\n"


def heard_from(answer, requests=1, **options):
    with answering(answer) as url:
        return http_load.run(Target(url), Load(1, requests, **options))


def test_gaps_are_seen():
    async def slowly(number, writer):
        writer.write(OK + HALF_A_SECOND)
        await writer.drain()
        await asyncio.sleep(0.8)
        writer.write(HALF_A_SECOND + END)

    run = heard_from(slowly)
    heard = serve.summary(Load(1, 1), run)
    assert (heard.continuous, heard.gaps_over_100_ms, heard.errors) == (0, 1, {})
    assert heard.longest_gap > 0.1
    assert heard.health is None  # there is no such route


def test_errors_are_counted_and_the_others_go_on():
    async def in_turn(number, writer):
        if number == 0:
            writer.write(b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif number == 1:
            writer.write(OK + HALF_A_SECOND)  # and no end
        elif number == 2:
            writer.write(OK + END)
        elif number == 3:
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 1\r\nConnection: close\r\n\r\n."
            )
        elif number == 4:
            pass  # closed without a word
        else:
            writer.write(OK + HALF_A_SECOND + END)

    heard = serve.summary(Load(1, 6), heard_from(in_turn, 6))
    assert heard.errors == {"429": 1, "cut": 2, "no audio": 1, "no PCM or WAV": 1}
    assert heard.continuous == 1


def test_a_server_that_never_ends():
    async def for_ever(number, writer):
        writer.write(OK)
        while True:
            writer.write(HALF_A_SECOND)
            await writer.drain()
            await asyncio.sleep(0.05)

    run = heard_from(for_ever, timeout=0.5)
    (only,) = run.received
    assert only.error == "timeout"
    assert only.pieces
    assert serve.summary(Load(1, 1), run).continuous == 0


def test_a_server_that_does_not_speak():
    async def no(number, writer):
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with answering(no) as url, pytest.raises(NetworkError, match="did not speak: 401"):
        serve.measure(Target(url), Load(1, 1), 1)
    with pytest.raises(NetworkError, match="did not speak: refused"):
        serve.measure(Target(url), Load(1, 1), 1)


# The command.


def test_the_command_with_a_url(fish, server, tmp_path):
    file = tmp_path / "raw.json"
    arguments = ("bench", "--serve", server.url, "--streams", "2", "--repeat", "1", "-q")
    code, out, err = fish(*arguments, "--raw", file)
    assert (code, err) == (0, "")
    assert out.startswith(f"{server.url}/v1/tts\nclients 2, requests 2, load closed loop\n")
    for name in ("time to first audio, one client alone", " of 2, ", "errors: 0", "/v1/health meanwhile", "memory of"):
        assert name in out
    assert "the engine itself" not in out
    assert len(json.loads(file.read_text())["load"]["received"]) == 2
    code, out, _ = fish(*arguments, "--json")
    told = json.loads(out)
    assert told["load"]["requests"] == 2
    assert told["raw"]["load"]["received"][0]["pieces"]
    assert told["engine_first_audio"] is None


@pytest.mark.slow
def test_the_command_with_a_server_of_its_own(fish, micro):
    arguments = ("--checkpoint-path", micro, "--no-compile", "--streams", "1", "--repeat", "1", "--json", "-q")
    code, out, err = fish("bench", "--serve", *arguments)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["load"]["errors"], told["alone"]) == ({}, None)
    assert told["engine_first_audio"]["p50"] > 0
    assert told["load"]["memory"] > 1e8


def test_a_url_needs_no_torch(server):
    program = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, flush=True))\n"
    program += f"sys.argv = ['fish', 'bench', '--serve', {server.url!r}, '--repeat', '1', '-q']\n"
    program += "from fishcli.cli.main import main; main()"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("False\n")
    assert "errors: 0" in ran.stdout


def test_a_server_that_does_not_start(tmp_path):
    with pytest.raises(FishError, match="The server did not start"), own_server.running(["--checkpoint-path", "none"]):
        pass
    with pytest.raises(FishError, match="The engine could not speak"):
        own_server.engine_first_audio({"model": str(tmp_path)}, Load(1, 1))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--serve", "Hello."], "'Hello.' is no URL of a server"),
        (["--raw", "a.json"], "belong to --serve"),
        (["--serve", "--api-key-file", "key"], "give its URL after --serve"),
        (["--serve", "http://127.0.0.1:9", "--size", "micro"], "leave it out, or the URL"),
        (["--serve", "http://127.0.0.1:9", "--format", "mp3"], "--format must be one of pcm, wav"),
    ],
    ids=str,
)
def test_usage_errors(fish, wrong, said):
    code, out, err = fish("bench", *wrong)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
