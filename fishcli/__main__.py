"""`python -m fishcli`: the same as `fish`, for people whose shell is called fish."""

from fishcli.cli.main import main

main()
