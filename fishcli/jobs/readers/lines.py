"""Jobs of lines: .jsonl with an object in each line, .csv with a header, .txt with a text in each line or paragraph."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from fishcli import files, text
from fishcli.errors import FishError, InputError
from fishcli.jobs.line import Job, Line, Problem
from fishcli.request import SamplingParams

MAX_BYTES = 2**28  # of a job's file
MAX_LINES = 1_000_000
MAX_LINE = 2**18  # characters of a line of the file, all fields together

_NUMBERS = {"temperature": float, "top_p": float, "repetition_penalty": float, "seed": int}
FIELDS = ("id", "text", "voice", "ref", "ref_text", "format", "language", *_NUMBERS)
_LISTS = ("ref", "ref_text")
_BLANK = re.compile(r"\n[ \t]*\n\s*")
_DELIMITERS = ",;\t|"

_Raw: TypeAlias = "Mapping[str, Any] | FishError"  # the fields of a line, or what is wrong with it


def read(path: Path, paragraphs: bool = False) -> Job:
    """Return the job of a .jsonl, .csv or .txt file. A line without an id has its number. Raises InputError."""
    source, kind = _source(path), path.suffix.lower()
    if kind == ".jsonl":
        found = _objects(source)
    elif kind == ".csv":
        found = _rows(source, path)
    else:
        found = _paragraphs(source) if paragraphs else _lines(source)
    lines, problems = [], []
    for number, fields in found:
        if number > MAX_LINES:
            raise InputError(f"{path} has more than {MAX_LINES:,} lines; split it.")
        try:
            lines.append(_line(number, fields, path.parent))
        except FishError as error:
            problems.append(Problem(number, str(error), _id(fields)))
    return Job(tuple(lines), tuple(problems))


def _source(path: Path) -> str:
    with files.open_regular(path) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} has more than {MAX_BYTES // 2**20} MB; split it.")
    try:
        return text.decode(data).replace("\r\n", "\n").replace("\r", "\n")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _lines(source: str) -> Iterator[tuple[int, _Raw]]:
    for number, line in enumerate(source.split("\n"), 1):
        if line.strip():
            yield number, {"text": line.strip()}


def _paragraphs(source: str) -> Iterator[tuple[int, _Raw]]:
    """Yield the paragraphs, which stand between blank lines, each with its number among them."""
    paragraphs = (each.strip("\n") for each in _BLANK.split(source))
    for number, paragraph in enumerate(filter(str.strip, paragraphs), 1):
        yield number, {"text": paragraph}


def _objects(source: str) -> Iterator[tuple[int, _Raw]]:
    for number, line in enumerate(source.split("\n"), 1):
        if len(line) > MAX_LINE:
            yield number, _too_long()
        elif line.strip():
            yield number, _object(line)


def _object(line: str) -> _Raw:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return InputError(f"it is no JSON ({str(error).partition(':')[0]})")
    return fields if isinstance(fields, dict) else InputError('it is no JSON object, such as {"text": "Hello."}')


def _rows(source: str, path: Path) -> Iterator[tuple[int, _Raw]]:
    """Yield the rows of a table by the lines on which they begin. Raises InputError for a header without `text`."""
    first = source.partition("\n")[0]
    table = csv.reader(io.StringIO(source, newline=""), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    names: list[str] | None = None
    while True:
        number = table.line_num + 1
        try:
            row = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, InputError(f"it is no row of a table ({error})")
            continue
        if names is None:
            names = _header(row, path)
        elif any(map(str.strip, row)):
            yield number, _row(names, row)


def _header(row: list[str], path: Path) -> list[str]:
    names = [name.strip().lower() for name in row]
    if "text" not in names:
        raise InputError(f"The first line of {path} names no column text; it must name the columns, such as id,text.")
    if len(set(names)) < len(names):
        raise InputError(f"The first line of {path} names a column twice.")
    for name in names:
        if name not in FIELDS:
            raise InputError(f"{path}: {_unknown(name, 'column')}")
    return names


def _row(names: list[str], row: list[str]) -> _Raw:
    if len(row) != len(names):
        return InputError(f"it has {len(row)} columns, and the first line has {len(names)}; quote texts with commas")
    if sum(map(len, row)) > MAX_LINE:
        return _too_long()
    fields: dict[str, Any] = {name: value for name, value in zip(names, row, strict=True) if value.strip()}
    for name, kind in _NUMBERS.items():
        if name in fields:
            try:
                fields[name] = kind(fields[name])
            except ValueError:
                return InputError(f"{name} must be a number, not {fields[name]!r:.40}")
    return {"text": "", **fields}


def _too_long() -> InputError:
    return InputError(f"it has more than {MAX_LINE:,} characters; split it")


def _line(number: int, fields: _Raw, folder: Path) -> Line:
    """Return a line. Recordings are found from the folder of the job. Raises FishError."""
    if isinstance(fields, FishError):
        raise fields
    given = {name: value for name, value in fields.items() if value is not None}
    for name in given:
        if name not in FIELDS:
            raise InputError(_unknown(name, "field"))
    if "text" not in given:
        raise InputError("it has no text")
    words = {name: _word(name, given[name]) if name in given else None for name in ("voice", "language", "format")}
    ref, ref_text = (_list(name, given.get(name, ())) for name in _LISTS)
    sampling = SamplingParams(**{name: _number(name, given[name]) for name in _NUMBERS if name in given})
    ref = tuple(str(folder / each) for each in ref)
    id = _word("id", str(given["id"]) if type(given.get("id")) is int else given.get("id", f"{number:05}"))
    said = _word("text", given["text"])
    return Line(
        id,
        said,
        number,
        words["voice"],
        ref,
        ref_text,
        language=words["language"],
        format=words["format"],
        sampling=sampling,
    )


def _unknown(name: str, kind: str) -> str:
    near = difflib.get_close_matches(name.lower(), FIELDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FIELDS)}"
    return f"there is no {kind} {name[:40]!r}; {hint}"


def _word(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} must be text, not {type(value).__name__}")
    return value


def _list(name: str, value: object) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        raise InputError(f"{name} must be text or a list of texts")
    return tuple(values)


def _number(name: str, value: object) -> Any:
    if isinstance(value, float) and not math.isfinite(value):  # JSON has none, and Python reads them
        raise InputError(f"{name} must be a number, not {value}")
    return value


def _id(fields: _Raw) -> str | None:
    id = None if isinstance(fields, FishError) else fields.get("id")
    return id[:64] if isinstance(id, str) else None
