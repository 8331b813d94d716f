"""A public address for the page, through the servers of Gradio."""

from __future__ import annotations

import secrets

from fishcli.errors import FishError
from fishcli.webui.page import import_gradio


def share(port: int) -> str:
    """Return the public address of a port of this machine. Raises FishError where there cannot be one.

    Gradio fetches a helper program for it, once, and the helper holds a tunnel to Gradio's servers until we end.
    """
    import_gradio()
    from gradio.networking import setup_tunnel

    try:
        return str(setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None))
    except Exception as error:  # of the network, of the helper, of a folder that cannot be written
        raise FishError(
            "There is no public link, since Gradio's servers or its helper cannot be reached; the page is local only."
        ) from error
