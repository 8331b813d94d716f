"""Frameworks for voice agents, unchanged, against a real server: Pipecat and LiveKit Agents.

They are heavy, and come with `pip install fishcli[interop]`.
"""

import asyncio
import importlib.util
import os
import warnings

import numpy as np
import pytest

pytest.importorskip("fastapi")

from conftest import TINY
from serving import serving
from sounds import encoded

from fishcli import audio
from fishcli.engine import load

RATE = 24_000
SENTENCES = ("Good morning.", "How are you?")
WAV = encoded(audio.read(TINY / "reference.wav", 22_050)[:44_100], 22_050)


def needs(*packages: str) -> None:
    """Skip without the packages; CI has to have them."""
    missing = [each for each in packages if importlib.util.find_spec(each) is None]
    if missing:
        assert not os.environ.get("CI"), f"CI needs {missing}: pip install fishcli[interop]"
        pytest.skip(f"needs {missing}: pip install fishcli[interop]", allow_module_level=True)


needs("pipecat", "livekit")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # their own, of what they import
    import aiohttp
    from livekit.agents import APIConnectOptions, APIStatusError
    from livekit.plugins import fishaudio
    from pipecat.frames.frames import (
        EndFrame,
        ErrorFrame,
        Frame,
        InterruptionFrame,
        TTSAudioRawFrame,
        TTSSpeakFrame,
        TTSStoppedFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.services.fish.tts import FishAudioTTSService
    from pipecat.services.openai.tts import OpenAITTSService
    from pipecat.workers.runner import WorkerRunner

# Their own, when they run; nothing of ours can change it.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The built-in voice, which ends its sentences."""
    with serving(load(threads=1), tmp_path_factory.mktemp("voices")) as running:
        yield running


@pytest.fixture(autouse=True)
def _at_rest(server):
    """Each test begins and ends with an engine that has nothing to do."""
    assert server.idle(60)
    yield
    assert server.idle(60)


@pytest.fixture
def fox(server):
    """A voice of the library whose name is one of OpenAI's."""
    voice = server.library.add([WAV], ["The quick brown fox"], title="nova")
    yield voice
    server.library.remove(voice.id)


class Ear(FrameProcessor):
    """The end of a pipeline: it keeps what arrives, and tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.news = asyncio.Condition()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        async with self.news:
            self.frames.append(frame)
            self.news.notify_all()
        await self.push_frame(frame, direction)

    def heard(self) -> np.ndarray:
        """Return the sound so far, at 24 kHz."""
        sounds = [each for each in self.frames if isinstance(each, TTSAudioRawFrame)]
        assert {(each.sample_rate, each.num_channels) for each in sounds} <= {(RATE, 1)}
        return np.frombuffer(b"".join(each.audio for each in sounds), "<i2")

    async def until(self, kind: type[Frame], times: int = 1) -> None:
        """Wait for frames of a kind."""
        async with self.news:
            enough = self.news.wait_for(lambda: sum(isinstance(each, kind) for each in self.frames) >= times)
            await asyncio.wait_for(enough, 60)


def pipeline(service, script) -> tuple[Ear, list[str]]:
    """Run a service in a pipeline while `script(worker, ear)` feeds it. Returns what was heard, and its errors."""
    ear, errors = Ear(), []

    async def run() -> None:
        speaker = service()
        worker = PipelineWorker(
            Pipeline([speaker, ear]),
            params=PipelineParams(audio_out_sample_rate=RATE),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
        )
        started = asyncio.Event()

        @worker.event_handler("on_pipeline_started")
        async def _started(worker, frame):
            started.set()

        @worker.event_handler("on_pipeline_error")
        async def _failed(worker, frame: ErrorFrame):
            errors.append(frame.error)

        async def feed() -> None:
            await asyncio.wait_for(started.wait(), 30)
            await script(worker, ear)
            await worker.queue_frame(EndFrame())

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await asyncio.gather(runner.run(), feed())
        if isinstance(speaker, OpenAITTSService):
            await speaker._client.close()  # which it leaves open

    asyncio.run(asyncio.wait_for(run(), 120))
    return ear, errors


def fish(server, **settings: object):
    """Return a maker of Pipecat's service for Fish Audio, as its users make it but for the address."""

    def make() -> FishAudioTTSService:
        service = FishAudioTTSService(api_key="none", settings=FishAudioTTSService.Settings(**settings))
        service._base_url = server.url.replace("http", "ws") + "/v1/tts/live"
        return service

    return make


def openai(server, **settings: object):
    """Return a maker of Pipecat's service for OpenAI."""
    options = {"api_key": "none", "base_url": f"{server.url}/v1"}
    return lambda: OpenAITTSService(**options, settings=OpenAITTSService.Settings(**settings))


async def speak(worker, ear) -> None:
    """Say two sentences, each when the one before it has been heard."""
    for number, sentence in enumerate(SENTENCES, 1):
        await worker.queue_frame(TTSSpeakFrame(sentence))
        await ear.until(TTSStoppedFrame, number)


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.5, "top_p": 0.5, "prosody_speed": 1.2, "chunk_length": 120}]
)
def test_pipecat_hears_each_sentence_though_nothing_tells_of_the_end(server, settings):
    ear, errors = pipeline(fish(server, **settings), speak)
    assert errors == []
    assert 0.8 < len(ear.heard()) / RATE < 8
    assert np.abs(ear.heard()).max() > 300


@pytest.mark.slow
def test_pipecat_uses_a_voice_of_the_library(server, fox):
    ear, errors = pipeline(fish(server, voice=fox.id), speak)
    assert errors == []
    assert len(ear.heard()) > 0.8 * RATE


@pytest.mark.slow
def test_pipecat_is_told_of_an_unknown_voice(server):
    async def script(worker, ear) -> None:
        await worker.queue_frame(TTSSpeakFrame(SENTENCES[0]))
        await asyncio.sleep(1)

    ear, errors = pipeline(fish(server, voice="nobody"), script)
    assert errors
    assert len(ear.heard()) == 0


def test_an_interruption_ends_the_speech_and_the_next_sentence_is_heard(server):
    sizes = []

    async def script(worker, ear) -> None:
        await worker.queue_frame(TTSSpeakFrame("One two three four five six seven eight nine ten. " * 4))
        await ear.until(TTSAudioRawFrame)
        await worker.queue_frame(InterruptionFrame())
        await ear.until(InterruptionFrame)
        while not await asyncio.to_thread(server.idle, 10):  # the engine has stopped as well
            pytest.fail("the engine goes on")
        sizes.append(len(ear.heard()))
        await worker.queue_frame(TTSSpeakFrame(SENTENCES[0]))
        await ear.until(TTSStoppedFrame, 1 + sum(isinstance(each, TTSStoppedFrame) for each in ear.frames))

    ear, errors = pipeline(fish(server), script)
    assert errors == []
    assert sizes[0] < 8 * RATE
    assert len(ear.heard()) - sizes[0] > 0.3 * RATE


@pytest.mark.parametrize("voice", ["alloy", "nova"])
def test_pipecats_openai_service_speaks(server, fox, voice):
    ear, errors = pipeline(openai(server, voice=voice, speed=1.1), speak)
    assert errors == []
    assert 0.8 < len(ear.heard()) / RATE < 8


def livekit(server, script, **options: object):
    """Run `script(tts)` with LiveKit's plugin, as its users make it but for the address."""

    async def run():
        async with aiohttp.ClientSession() as session:
            options.setdefault("voice_id", fishaudio.tts.NOT_GIVEN)
            tts = fishaudio.TTS(api_key="none", base_url=server.url, http_session=session, **options)
            try:
                return await script(tts)
            finally:
                await tts.aclose()

    return asyncio.run(asyncio.wait_for(run(), 120))


ONCE = APIConnectOptions(max_retry=0, timeout=30)


async def collected(stream) -> float:
    """Return the seconds of a stream's sound, which must not be silent."""
    frames = [each.frame async for each in stream]
    sound = np.concatenate([np.frombuffer(each.data, "<i2") for each in frames])
    assert np.abs(sound).max() > 300
    return len(sound) / frames[0].sample_rate


@pytest.mark.parametrize(
    "name", ["wav", *(pytest.param(each, marks=pytest.mark.slow) for each in ("pcm", "mp3", "opus"))]
)
def test_livekit_synthesizes_and_streams_in_every_format(server, name):
    async def script(tts) -> tuple[float, float]:
        async with tts.synthesize(SENTENCES[0], conn_options=ONCE) as answer:
            whole = await collected(answer)
        async with tts.stream(conn_options=ONCE) as stream:
            stream.push_text(" ".join(SENTENCES))
            stream.end_input()
            return whole, await collected(stream)

    whole, live = livekit(server, script, output_format=name)
    assert 0.4 < whole < 4
    assert 0.8 < live < 8


def test_livekit_speaks_again_over_the_same_socket(server):
    async def script(tts) -> list[float]:
        heard = []
        for sentence in SENTENCES:
            async with tts.stream(conn_options=ONCE) as stream:
                stream.push_text(sentence)
                stream.end_input()
                heard.append(await collected(stream))
        assert len(tts._pool._connections) == 1
        return heard

    assert min(livekit(server, script, output_format="pcm")) > 0.3


def test_livekit_names_a_voice_or_is_told_that_there_is_none(server, fox):
    async def script(tts) -> float:
        async with tts.synthesize(SENTENCES[0], conn_options=ONCE) as answer:
            return await collected(answer)

    assert livekit(server, script, voice_id=fox.id) > 0.4
    with pytest.raises(APIStatusError) as caught:
        livekit(server, script, voice_id="nobody")
    assert caught.value.status_code == 404

    async def live(tts) -> float:
        async with tts.stream(conn_options=ONCE) as stream:
            stream.push_text(SENTENCES[0])
            stream.end_input()
            return await collected(stream)

    with pytest.raises(APIStatusError, match="error"):
        livekit(server, live, voice_id="nobody")
