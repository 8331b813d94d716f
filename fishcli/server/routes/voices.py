"""The voices of the library, by the APIs of Fish Audio and OpenAI."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from fishcli import text
from fishcli.errors import InputError
from fishcli.server import bodies
from fishcli.server.errors import Refused
from fishcli.server.openapi import refusals
from fishcli.server.schemas import NewVoice, VoiceChanges
from fishcli.server.speech import Service
from fishcli.voices import Voice
from fishcli.voices.voice import MAX_RECORDINGS, MAX_TAGS

M = TypeVar("M", bound=VoiceChanges)
T = TypeVar("T")

_LISTS = {"voices", "texts", "tags"}  # fields of a form that may be repeated
_MAX_FIELDS = MAX_RECORDINGS + MAX_TAGS + 32
_MAX_FIELD = 2**17  # bytes of a text in a form
_WRITERS = 2  # voices that are checked and written at once
_AUTHOR = {"_id": "local", "nickname": "local", "avatar": ""}


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    _add_reading(routes, service)
    _add_writing(routes, service)
    _add_names(routes, service)
    return routes


def _add_reading(routes: APIRouter, service: Service) -> None:
    @routes.get("/model", tags=["Voices"], responses=refusals())
    async def voices(
        page_size: Annotated[int, Query(ge=1, le=1000)] = 10,
        page_number: Annotated[int, Query(ge=1, le=2**31)] = 1,
        title: Annotated[str, Query(description="A part of the title.")] = "",
        tag: Annotated[list[str], Query(description="The voice has all of these.")] = [],  # noqa: B006
        language: Annotated[list[str], Query(description="The voice speaks one of these.")] = [],  # noqa: B006
        author_id: str = "",
        own: Annotated[bool, Query(alias="self", description="All voices are the user's own.")] = False,
    ) -> dict[str, Any]:
        """List the voices, the newest first."""
        found = [] if author_id not in ("", _AUTHOR["_id"]) else await service.in_thread(service.library.list)
        found = [voice for voice in found if _matches(voice, title, tag, language)]
        found.sort(key=lambda voice: (voice.created_at, voice.id), reverse=True)
        start = (page_number - 1) * page_size
        return {"total": len(found), "items": [item(voice) for voice in found[start : start + page_size]]}

    @routes.get("/model/{id}", tags=["Voices"], responses=refusals())
    async def voice(id: str) -> dict[str, Any]:
        """Describe a voice, by its id or title."""
        return item(await service.in_thread(service.library.find, id))


def _add_writing(routes: APIRouter, service: Service) -> None:
    library, limit = service.library, anyio.CapacityLimiter(_WRITERS)

    async def write(work: Callable[..., T], *args: Any) -> T:
        """Run work in a thread to its end, also if the client leaves."""
        return await anyio.to_thread.run_sync(partial(work, *args), limiter=limit)

    @routes.post("/model", tags=["Voices"], status_code=201, openapi_extra=_body(NewVoice), responses=refusals())
    async def add(request: Request) -> JSONResponse:
        """Add a voice."""
        asked = await _read(request, NewVoice)
        return JSONResponse(item(await write(_added, service, asked)), 201)

    @routes.patch("/model/{id}", tags=["Voices"], openapi_extra=_body(VoiceChanges), responses=refusals())
    async def update(id: str, request: Request) -> dict[str, Any]:
        """Change the description of a voice, by its id."""
        asked = await _read(request, VoiceChanges)
        changes = asked.model_dump(exclude={"cover_image"})
        return item(await write(partial(library.update, id, **changes)))

    @routes.delete("/model/{id}", tags=["Voices"], status_code=204, responses=refusals())
    async def remove(id: str) -> Response:
        """Remove a voice, by its id."""
        await write(library.remove, id)
        return Response(status_code=204)


def _add_names(routes: APIRouter, service: Service) -> None:
    async def names() -> list[dict[str, str]]:
        found = await service.in_thread(service.library.list)
        listed = [{"id": voice.id, "name": voice.title} for voice in found]
        default = {"id": "default", "name": "default"}  # the voice without a reference
        return listed if any("default" in each.values() for each in listed) else [default, *listed]

    @routes.get("/v1/voices", tags=["OpenAI"], responses=refusals(), operation_id="get_voices")
    @routes.get("/v1/audio/voices", tags=["OpenAI"], responses=refusals(), operation_id="get_audio_voices")
    async def voices() -> dict[str, Any]:
        """List the voices by name."""
        return {"voices": await names()}

    @routes.get("/v1/audio/models", tags=["OpenAI"], responses=refusals())
    async def models() -> dict[str, Any]:
        """List the voices by name, and the one model that this server has."""
        name = service.engine.model.name
        return {"voices": await names(), "models": [{"id": name, "name": name}]}


def item(voice: Voice) -> dict[str, Any]:
    """Return a voice as Fish Audio's clients expect it: with every key, though nobody likes or shares it here."""
    samples = [
        {"title": each.name, "text": each.text, "task_id": f"{voice.id}-{number}", "audio": ""}
        for number, each in enumerate(voice.recordings)
    ]
    return {
        "_id": voice.id,
        "type": "tts",
        "title": voice.title,
        "description": voice.description,
        "cover_image": "",
        "train_mode": "fast",
        "state": "trained",
        "tags": list(voice.tags),
        "samples": samples,
        "created_at": voice.created_at.isoformat(),
        "updated_at": voice.updated_at.isoformat(),
        "languages": list(voice.languages),
        "visibility": voice.visibility,
        "lock_visibility": False,
        **dict.fromkeys(("like_count", "mark_count", "shared_count", "task_count"), 0),
        "liked": False,
        "marked": False,
        "author": _AUTHOR,
    }


def _added(service: Service, asked: NewVoice) -> Voice:
    return service.library.add(
        asked.voices,
        asked.texts,
        title=asked.title,
        description=asked.description or "",
        tags=asked.tags or (),
        visibility=asked.visibility or "private",
        languages=sorted({text.guess_language(said) for said in asked.texts if said.strip()}),
        max_seconds=service.settings.max_audio_seconds,
    )


def _matches(voice: Voice, title: str, tags: list[str], languages: list[str]) -> bool:
    spoken = not languages or not set(languages).isdisjoint(voice.languages)
    return title.casefold() in voice.title.casefold() and set(tags) <= set(voice.tags) and spoken


async def _read(request: Request, model: type[M]) -> M:
    """Return the body of a request, a form, JSON or msgpack, as a model. Raises FishError."""
    if bodies.content_type(request) in bodies.FORMS:
        asked = bodies.validated(await _fields(request), model)
    elif await request.body():
        asked = await bodies.read(request, model)
    else:  # as the SDKs change nothing
        asked = bodies.validated({}, model)
    if asked.cover_image:
        raise InputError("cover_image: this server keeps no pictures; leave it out.", field="cover_image")
    return asked


async def _fields(request: Request) -> dict[str, Any]:
    """Return the fields of a form. Raises Refused for what is none, or has too many or too large fields."""
    try:
        async with request.form(max_files=MAX_RECORDINGS + 1, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD) as form:
            fields: dict[str, Any] = {}
            for name, value in form.multi_items():
                data = await value.read() if isinstance(value, UploadFile) else value
                if name in _LISTS:
                    fields.setdefault(name, []).append(data)
                else:
                    fields[name] = data
            return fields
    except (FormParserError, UnicodeError) as error:
        raise Refused(400, "The body is not a valid form.") from error


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a body that is a form, JSON or msgpack."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    file = {"type": "string", "format": "binary"}
    properties = dict(schema["properties"], cover_image=file)
    if "voices" in properties:
        properties["voices"] = {**properties["voices"], "items": file}
    form = {"schema": {**schema, "properties": properties}}
    content = {bodies.FORMS[0]: form, bodies.JSON: {"schema": schema}, bodies.MSGPACK[0]: {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
