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
    from fishcli.server.settings import ServerSettings
    from fishcli.webui.page import Form

_SAMPLING = ("temperature", "top_p", "repetition_penalty", "seed", "max_new_tokens")
_OTHERS = ("voice", "language", "chunk_length", "iterative_prompt", "normalize")


@dataclass(frozen=True)
class Page:
    """The page: the values that its form begins with, whether / leads to it, and its public address, if any."""

    form: Form
    at_root: bool = False
    shared: str | None = None

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

        mount(app, replace(self.form, sampling=self.form.sampling.over(engine.sampling)), at_root=self.at_root)


def form(ctx: typer.Context) -> Form:
    """Return the form with the values of the settings. Raises FishError where the packages of the page are missing."""
    if importlib.util.find_spec("gradio") is None:
        raise FishError("The web page needs further packages; run `pip install 'fishcli[webui]'`.")
    from fishcli.request import SamplingParams
    from fishcli.webui.page import Form

    settings = ctx.default_map or {}
    sampling = SamplingParams(**{name: settings[name] for name in _SAMPLING if name in settings})
    return Form(sampling, **{name: settings[name] for name in _OTHERS if name in settings})
