"""What one look at the machine found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was looked at and found; what to do about it, unless all is well.

    `warn`: slower or less than could be. `fail`: something that the settings ask for would not work.
    """

    name: str
    value: str
    state: State = "ok"
    remedy: str = ""
