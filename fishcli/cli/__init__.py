"""The command line: one file a command, each of which parses, calls the library and shows the result."""

from fishcli.cli.app import main

__all__ = ["main"]
