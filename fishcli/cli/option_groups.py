"""Option groups: a command takes a dataclass, and Typer sees its fields."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any


def grouped(command: Callable[..., None], common: type) -> Callable[..., None]:
    """Replace each parameter of a dataclass type by the fields of that class, and add those of `common`.

    Typer supports flat signatures only. With this, a group of options is defined once, and a command receives it as
    one validated value. A command does not receive the common options.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    plain = inspect.signature(command).parameters
    groups = {name: hints[name] for name in plain if dataclasses.is_dataclass(hints[name])}
    parameters = [
        flat
        for name, parameter in plain.items()
        for flat in (
            _fields(groups[name])
            if name in groups
            else [parameter.replace(annotation=hints[name], kind=parameter.KEYWORD_ONLY)]
        )
    ]
    parameters += (extra := _fields(common))

    @functools.wraps(command)
    def flat_command(**values: Any) -> None:
        for option in extra:
            values.pop(option.name)
        taken = {
            name: kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
            for name, kind in groups.items()
        }
        command(**values, **taken)

    flat_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat_command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat_command


@functools.cache  # most groups are part of several commands
def _fields(group: Any) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(group)
    ]
