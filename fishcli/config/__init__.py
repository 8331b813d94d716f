"""Settings: their names, types and ranges, and the files and variables that set them.

They are merged once, in the command line. In rising priority: the defaults in `SETTINGS`, the user's `config.toml`,
`./fishcli.toml`, the environment. The options of the command line have the same defaults. Other packages receive
values.
"""

from fishcli.config.edit import init, set_value, template, unset
from fishcli.config.read import Resolved, Settings, load_settings, local_file, user_file
from fishcli.config.schema import SETTINGS, Setting, Value, find_setting, format_value

__all__ = [
    "SETTINGS",
    "Resolved",
    "Setting",
    "Settings",
    "Value",
    "find_setting",
    "format_value",
    "init",
    "load_settings",
    "local_file",
    "set_value",
    "template",
    "unset",
    "user_file",
]
