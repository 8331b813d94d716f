"""Every command, in the order in which the help lists them."""

from fishcli.cli import say, generate, encode, decode, download, doctor, completion, config  # noqa: F401, I001
