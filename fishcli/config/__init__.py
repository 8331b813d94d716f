"""Settings: what they are called, what they may be, and where each one comes from.

Merged once, at the edge: the environment over `./fishcli.toml` over the user's `config.toml` over the
defaults of `SETTINGS`, which is also where the options of the command line take theirs from. Everything
further down receives values.
"""

from fishcli.config.edit import init, set_value, template, unset
from fishcli.config.read import Resolved, Settings, load_settings, local_file, user_file
from fishcli.config.schema import SETTINGS, Setting, Value, named, spelled

__all__ = [
    "SETTINGS",
    "Resolved",
    "Setting",
    "Settings",
    "Value",
    "init",
    "load_settings",
    "local_file",
    "named",
    "set_value",
    "spelled",
    "template",
    "unset",
    "user_file",
]
