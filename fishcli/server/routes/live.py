"""Fish Speech's API: text that arrives over a WebSocket, and sound that leaves meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import ormsgpack
from fastapi import APIRouter, WebSocket
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect, WebSocketState

from fishcli.errors import FishError, InputError
from fishcli.request import TextFeed
from fishcli.server import bodies
from fishcli.server.admission import Place
from fishcli.server.answers import cancelled, put
from fishcli.server.errors import Refused, refusal, said, sentence
from fishcli.server.routes.fish import check_length, order
from fishcli.server.schemas import StartEvent, TextEvent
from fishcli.server.speech import Service, Utterance, speak

_PATH = "/v1/tts/live"
_EVENTS = 8  # of a client that wait
_PATIENCE = 0.5  # seconds in which more text may come before an utterance gives up its place
_MESSAGE = 2**15  # bytes of sound in a message; the SDK takes 64 KiB


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    sockets = _Sockets(service)

    @routes.websocket(_PATH)
    async def live(websocket: WebSocket) -> None:
        """Speak texts that arrive piece by piece."""
        await sockets.serve(websocket)

    return routes


class _Sockets:
    """The open sockets of a server, of which there are at most `max_live`."""

    def __init__(self, service: Service) -> None:
        self._service, self._open = service, 0

    async def serve(self, websocket: WebSocket) -> None:
        if self._open >= self._service.settings.max_live:
            error = Refused(429, "Too many live connections are open; try again later.", retry_after=5)
            await websocket.send_denial_response(refusal(websocket.url.path, error))
            return
        self._open += 1
        try:
            await websocket.accept()
            await Session(self._service, websocket).run()
        finally:
            self._open -= 1


class Session:
    """The conversation over one socket: utterances, one after another, until the client leaves or is idle.

    While there is text to speak an utterance has a place in the engine, as an HTTP request has; one that waits for
    text has none. A client may be faster than that: its events wait in a queue, and then in the network.
    """

    def __init__(self, service: Service, websocket: WebSocket) -> None:
        self._service, self._socket = service, websocket
        self._events: asyncio.Queue[Message] = asyncio.Queue(_EVENTS)
        self._feed: TextFeed | None = None  # of the utterance in progress
        self._place: Place | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._sent = 0  # events

    async def run(self) -> None:
        """Take events until the client leaves, sends none while nothing is spoken, or the server ends."""
        working, leaving = asyncio.ensure_future(self._work()), asyncio.ensure_future(self._read())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        except FishError as error:
            await self._stop_speaking()
            await self._finish(error)
        finally:
            await cancelled(working, leaving)
            await self._stop_speaking()
            if self._socket.application_state is WebSocketState.CONNECTED:
                with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has left
                    await self._socket.close()

    async def _read(self) -> None:
        """Put what the client sends into the queue; return when it has left."""
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            await self._events.put(message)

    async def _work(self) -> None:
        while (message := await self._next()) is not None:
            await self._take(await _event(message))

    async def _next(self) -> Message | None:
        """Return the next message; None where none has come for too long, or the server ends."""
        receiving = asyncio.ensure_future(self._events.get())
        ending = asyncio.ensure_future(self._service.drain.wait())
        try:
            while not receiving.done():
                waiting: set[asyncio.Future[Any]] = {receiving, ending}
                idle, sent = self._service.settings.live_idle, self._sent
                if self._speaking is not None and not self._speaking.done():
                    waiting, idle = {*waiting, self._speaking}, self._service.settings.request_timeout
                done, _ = await asyncio.wait(waiting, timeout=idle, return_when=asyncio.FIRST_COMPLETED)
                if (not done and self._sent == sent) or (ending in done and not receiving.done()):
                    await self._end_text()
                    return None
        finally:
            receiving.cancel()
            ending.cancel()
        return receiving.result()

    async def _end_text(self) -> None:
        """Speak the text so far to its end, where an utterance is in progress."""
        if self._feed is not None:
            await self._service.in_thread(self._feed.close)
        if self._speaking is not None:
            await asyncio.wait({self._speaking})

    async def _take(self, event: dict[str, Any]) -> None:
        kind = event.get("event")
        if kind == "start":
            await self._start(bodies.validated(event, StartEvent))
        elif kind == "text":
            await self._text(bodies.validated(event, TextEvent).text)
        elif self._feed is not None and kind == "flush":
            await self._enter()
            await self._service.in_thread(self._feed.flush)
        elif self._feed is not None and kind == "stop":
            feed, self._feed = self._feed, None
            await self._service.in_thread(feed.close)

    async def _start(self, event: StartEvent) -> None:
        if reason := self._service.unready():
            raise Refused(503, f"No text can be spoken: {reason}.")
        if self._speaking is not None and not self._speaking.done():
            if self._feed is not None:
                raise InputError("A text is being spoken; send stop before the next start.", field="event")
            await asyncio.wait({self._speaking})
        asked, self._feed = event.request, TextFeed()
        utterance = Utterance(self._service, order(self._service, asked, self._feed))
        if asked.text:
            await self._text(asked.text)
        self._speaking = asyncio.ensure_future(self._speak(utterance))

    async def _text(self, text: str) -> None:
        check_length(self._service, text)
        if self._feed is None:
            raise InputError("There is no utterance to add text to; send start first.", field="event")
        await self._enter()
        await self._service.in_thread(self._feed.feed, text)

    async def _enter(self) -> None:
        """Wait for a place, unless the utterance has one."""
        if self._place is None or not self._place.held:
            self._place = await self._service.admission.enter(0)

    def _leave(self) -> None:
        """Give the place back, if the utterance has one."""
        if self._place is not None:
            self._place.release()

    async def _leave_while_waiting(self, utterance: Utterance) -> None:
        """Give the place back whenever the utterance waits for text."""
        while True:
            await asyncio.sleep(_PATIENCE)
            if utterance.waits_for_text:
                self._leave()

    async def _speak(self, utterance: Utterance) -> None:
        """Send the sound of an utterance, and how it ended."""
        timer = self._service.metrics.speech(_PATH)
        watching = asyncio.ensure_future(self._leave_while_waiting(utterance))
        try:
            async with contextlib.aclosing(speak(self._service, utterance, timer)) as pieces:
                async for piece in pieces:
                    for start in range(0, len(piece.data), _MESSAGE):
                        await self._send({"event": "audio", "audio": piece.data[start : start + _MESSAGE]})
            timer.end("done")
            await self._send({"event": "finish", "reason": "stop"})
        except WebSocketDisconnect:
            timer.end("disconnect")
        except Exception as error:
            known = said(error)
            timer.failed(known)
            await self._finish(known)
        finally:
            timer.end("disconnect")
            watching.cancel()
            self._feed = None
            self._leave()

    async def _finish(self, error: FishError) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has left
            await self._send({"event": "finish", "reason": "error", "message": sentence(error), "status": error.status})

    async def _send(self, event: dict[str, Any]) -> None:
        data = {"type": "websocket.send", "bytes": ormsgpack.packb(event)}
        if self._place is None:
            await self._socket.send(data)
        else:
            await put(self._socket.send, data, self._place)
        self._sent += 1

    async def _stop_speaking(self) -> None:
        if self._speaking is not None:
            await cancelled(self._speaking)
        self._leave()


async def _event(message: Message) -> dict[str, Any]:
    """Return the event in a message of the socket. Raises InputError for what is none."""
    data: bytes | None = message.get("bytes")
    event = None if data is None else await bodies.off_loop(data, lambda: bodies.from_msgpack(data))
    if not isinstance(event, dict):
        raise InputError("A message must be a msgpack map, in a binary frame.", field="event")
    return event
