"""Answers that are sent while they are made: they wait for a place, and watch for the client to leave."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from fishcli import audio
from fishcli.audio.stream_encoder import WAV_HEADER, wav_header
from fishcli.server import sse
from fishcli.server.admission import Place
from fishcli.server.errors import Refused, refusal, shown
from fishcli.server.metrics import End, SpeechTimer
from fishcli.server.speech import Order, Piece, Service, Utterance, speak

Pieces = Callable[[SpeechTimer], AsyncGenerator[bytes]]

_STALLED = 1.0  # seconds after which a client that takes nothing gives up its place
_IN_MEMORY = 8 * 2**20  # bytes of a whole answer; more wait on the disk
_BLOCK = 2**18  # bytes


class Cut(Exception):
    """An answer failed after its start. The connection is closed without a proper end: nobody takes it for whole."""


class Answer(Response):
    """Bytes that are made while they are sent, for a text of so many characters.

    Nothing is sent before the first bytes are there, so that whatever is wrong with a request is known by its status.
    A client that leaves ends the work at once, and one that reads nothing gives its place to others. With `whole`, a
    stream of that WAV is sent as a complete file, when the last of it is there.
    """

    def __init__(
        self, service: Service, pieces: Pieces, characters: int, media_type: str,
        headers: dict[str, str] | None = None, whole: audio.SoundFormat | None = None,
    ) -> None:  # fmt: skip
        super().__init__(None, 200, headers, media_type)
        del self.headers["content-length"]  # of the empty body
        self._service, self._pieces, self._characters, self._whole = service, pieces, characters, whole
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, or the error that kept it from starting. Raises Cut where it fails later."""
        timer = self._service.metrics.speech(scope["path"])
        working = asyncio.ensure_future(self._work(send, timer))
        leaving = asyncio.ensure_future(left(receive))
        try:
            timer.end(await self._watch(working, leaving, timer))
        except Exception as error:
            timer.failed(error)
            if self._started:
                raise Cut(str(error)) from error
            await refusal(scope["path"], shown(error))(scope, receive, send)
        finally:
            timer.end("shutdown")
            scope["state"]["audio_seconds"] = timer.seconds
            await cancelled(working, leaving)

    async def _watch(self, working: asyncio.Future[None], leaving: asyncio.Future[None], timer: SpeechTimer) -> End:
        """Wait for the end of the work, and tell how it came. Raises the error of the work, or Refused."""
        limit = self._service.settings.request_timeout
        done, _ = await asyncio.wait({working, leaving}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if working in done:
            working.result()
            return "done"
        if leaving in done:
            return "disconnect"
        timer.end("timeout")
        raise Refused(503, f"The answer took more than {limit:g} seconds.", field="text")

    async def _work(self, send: Send, timer: SpeechTimer) -> None:
        if reason := self._service.unready():
            raise Refused(503, f"No text can be spoken: {reason}.", retry_after=5)
        async with self._service.admission.place(self._characters) as place, aclosing(self._pieces(timer)) as pieces:
            if self._whole is not None:
                await self._send_whole(send, self._whole, pieces, place)
                return
            async for data in pieces:
                await self._start(send)
                await put(send, {"type": "http.response.body", "body": data, "more_body": True}, place)
        await self._start(send)
        await send({"type": "http.response.body", "body": b""})

    async def _send_whole(
        self, send: Send, form: audio.SoundFormat, pieces: AsyncGenerator[bytes], place: Place
    ) -> None:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
            async for data in pieces:
                file.write(data)
            place.release()
            size = file.tell()
            self.headers["content-length"] = str(size)
            file.seek(0)
            file.write(wav_header(form.sample_rate or 0, form.subtype or "", size - WAV_HEADER))
            file.seek(0)
            await self._start(send)
            while data := file.read(_BLOCK):
                await send({"type": "http.response.body", "body": data, "more_body": file.tell() < size})

    async def _start(self, send: Send) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def spoken(
    service: Service, order: Order, stream_format: str, *, whole: bool = False, described: bool = False
) -> Answer:
    """Return the answer to an order: a complete file, a stream of sound, or one of events ("sse")."""
    text, sound = order.request.text, order.sound
    characters = len(text) if isinstance(text, str) else 0
    is_sse = stream_format == "sse"

    def pieces(timer: SpeechTimer) -> AsyncGenerator[bytes]:
        heard = speak(service, Utterance(service, order), timer)
        return sse.events(heard, characters, described) if is_sse else _sound(heard)

    media_type = sse.MEDIA_TYPE if is_sse else sound.kind.media_type
    headers = {"X-Seed": str(order.request.seed), "X-Sample-Rate": str(sound.sample_rate)}
    return Answer(service, pieces, characters, media_type, headers, sound if whole else None)


async def _sound(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[bytes]:
    async with aclosing(pieces):
        async for piece in pieces:
            if piece.data:
                yield piece.data


async def left(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def put(send: Send, message: Message, place: Place) -> None:
    """Send a message. The place is given back where the client does not take what was sent before."""
    stalled = asyncio.get_running_loop().call_later(_STALLED, place.release)
    try:
        await send(message)
    finally:
        stalled.cancel()


async def cancelled(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
