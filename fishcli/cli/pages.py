"""The web page on the app of the server, for `fish webui` and `fish serve --webui`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from fishcli.errors import FishError

if TYPE_CHECKING:
    from fishcli.engine import Engine
    from fishcli.request import SamplingParams
    from fishcli.server.settings import ServerSettings

_SAMPLING = ("temperature", "top_p", "repetition_penalty", "max_new_tokens")


@dataclass(frozen=True)
class Page:
    """The page: the values that its form begins with, whether / leads to it, and its public address, if any."""

    sampling: SamplingParams
    at_root: bool = False
    shared: str | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("gradio") is None:
            raise FishError("The web page needs further packages; run `pip install 'fishcli[webui]'`.")

    def settings(self, settings: ServerSettings) -> ServerSettings:
        """Return the settings of a server with the page: its files need no key, its public address is known."""
        settings = replace(settings, open_paths=("/webui",))
        if self.shared is None:
            return settings
        host = urlsplit(self.shared).hostname or ""
        return replace(
            settings,
            allowed_hosts=(*settings.allowed_hosts, host),
            cors_origins=(*settings.cors_origins, self.shared.rstrip("/")),
        )

    def mount(self, app: Any, engine: Engine) -> None:
        """Put the page on the app of a server."""
        from fishcli.webui.mount import mount

        mount(app, self.sampling.over(engine.sampling), at_root=self.at_root)


def sampling(ctx: typer.Context) -> SamplingParams:
    """Return the sampling parameters of the settings, for a command that has no options for them."""
    from fishcli.request import SamplingParams

    known = {name: value for name, value in (ctx.default_map or {}).items() if name in _SAMPLING}
    return SamplingParams(**known)
