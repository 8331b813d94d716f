"""`python -m fishcli`: the same as `fish`, for people whose shell is called fish."""

from fishcli.cli.edge import main

main()
