"""The entry point of `fish`, of `fishcli` (for people whose shell is called fish) and of `python -m fishcli`."""

from fishcli.cli import signals


def main() -> None:
    """Run the command line. Ctrl-C works from here on, before the libraries are imported."""
    signals.leave_at_once()
    from fishcli.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
