"""Read the bodies of requests: JSON or msgpack, of bounded depth, checked against a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import anyio.to_thread
import ormsgpack
from fastapi import Request
from pydantic import BaseModel, ValidationError

from fishcli.errors import InputError
from fishcli.server.settings import MAX_DEPTH

JSON = "application/json"
MSGPACK = ("application/msgpack", "application/x-msgpack")  # the first is the one to send
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")  # httpx sends the latter where no file is
MAX_VALUES = 2**19  # of a body: twice the codes of the longest sound to decode
_SMALL = 2**14  # bytes that are parsed on the event loop: in less than a millisecond or two

# Bytes of a msgpack value without what it contains, by its first byte, and of the length of a text behind that byte.
_SIZES = [1] * 256
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
for _first, _size in zip(range(0xA0, 0xC0), range(1, 33), strict=True):
    _SIZES[_first] = _size
for _first, _size in zip(range(0xCA, 0xD9), (5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18), strict=True):
    _SIZES[_first] = _size
_SIZES[0xDC], _SIZES[0xDD], _SIZES[0xDE], _SIZES[0xDF] = 3, 5, 3, 5

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


async def read(request: Request, model: type[M]) -> M:
    """Return the body of a request as a model. Raises InputError that names the first field that is wrong."""
    data = await request.body()
    parse = from_msgpack if content_type(request) in MSGPACK else from_json
    return await off_loop(data, lambda: validated(parse(data), model))


async def off_loop(data: bytes, work: Callable[[], T]) -> T:
    """Do the parsing of some data: in a thread where it takes long enough to keep other requests waiting."""
    return work() if len(data) < _SMALL else await anyio.to_thread.run_sync(work)


def content_type(request: Request) -> str:
    """Return the media type of a request's body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def from_json(data: bytes) -> Any:
    """Return what a JSON text holds. Raises InputError."""
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:  # a value of two bytes would take a hundred
        raise _too_many()
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)  # bytes may be UTF-16 to it
        if b"\\u" in data:  # it may be half of a character
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise InputError("The body is not valid JSON.") from error
    return _shallow(value)


def from_msgpack(data: bytes) -> Any:
    """Return what a msgpack message holds. Raises InputError."""
    _count(data)
    try:
        value = ormsgpack.unpackb(data, option=ormsgpack.OPT_NON_STR_KEYS)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise InputError("The body is not valid msgpack.") from error
    return _shallow(value)


def validated(value: Any, model: type[M]) -> M:
    """Return a value as a model. Raises InputError that names the first field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise wrong_field(error.errors(include_url=False, include_input=False, include_context=False)) from error


def wrong_field(errors: Sequence[Any]) -> InputError:
    """Return the error that names the first field that is wrong, from what pydantic found."""
    first = errors[0]
    names = [str(each) for each in first["loc"] if each not in ("query", "body", "path")]
    field = ".".join(names)[:100].encode("ascii", "backslashreplace").decode()
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    reason = reason[:1].lower() + reason[1:]
    return InputError(f"{field}: {reason}." if field else f"The body is wrong: {reason}.", field=field)


def _no_number(name: str) -> None:
    raise InputError(f"The body holds {name}, which is no number in JSON.")


def _count(data: bytes) -> None:
    """Raise InputError for a message of too many values: an empty map takes one byte in it, and 72 in memory."""
    place = values = 0
    while place < len(data):
        values += 1
        if values > MAX_VALUES:
            raise _too_many()
        first = data[place]
        width = _LENGTHS.get(first, 0)
        if width:
            extension = 0xC7 <= first <= 0xC9  # has its type before its content
            place += width + extension + int.from_bytes(data[place + 1 : place + 1 + width], "big")
        place += _SIZES[first]


def _shallow(value: Any) -> Any:
    """Return the value. Raises InputError where its lists and maps are nested too deeply."""
    level, depth = [value], 0
    while level := [child for each in level for child in _children(each)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
    return value


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return [each for each in value.values() if isinstance(each, dict | list)]
    return [each for each in value if isinstance(each, dict | list)] if isinstance(value, list) else ()


def _too_many() -> InputError:
    return InputError(f"The body holds more than {MAX_VALUES:,} values; split it.")


def _too_deep() -> InputError:
    return InputError(f"The body is nested more than {MAX_DEPTH} levels deep.")
