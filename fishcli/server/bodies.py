"""Read the bodies of requests: JSON or msgpack, of bounded depth, checked against a schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
import ormsgpack
from fastapi import Request
from pydantic import BaseModel, ValidationError

from fishcli.errors import InputError
from fishcli.server.settings import MAX_DEPTH

MSGPACK = ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack")
_SMALL = 2**16  # bytes that are parsed on the event loop: in less than a millisecond or two

M = TypeVar("M", bound=BaseModel)


async def read(request: Request, model: type[M]) -> M:
    """Return the body of a request as a model. Raises InputError that names the first field that is wrong."""
    data = await request.body()
    work = partial(_parsed, data, content_type(request), model)
    return work() if len(data) < _SMALL else await anyio.to_thread.run_sync(work)


def content_type(request: Request) -> str:
    """Return the media type of a request's body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _parsed(data: bytes, kind: str, model: type[M]) -> M:
    return validated(from_msgpack(data) if kind in MSGPACK else from_json(data), model)


def from_json(data: bytes) -> Any:
    """Return what a JSON text holds. Raises InputError."""
    try:
        value = json.loads(data, parse_constant=_no_number)
        if b"\\u" in data:  # it may be half of a character
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise InputError("The body is not valid JSON.") from error
    return _shallow(value)


def from_msgpack(data: bytes) -> Any:
    """Return what a msgpack message holds. Raises InputError."""
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


def _too_deep() -> InputError:
    return InputError(f"The body is nested more than {MAX_DEPTH} levels deep.")
