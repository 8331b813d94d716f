"""The web page on the app of the server, for `fish webui` and `fish serve --webui`."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from fishcli.errors import FishError, SettingError

if TYPE_CHECKING:
    from fishcli.engine import Engine
    from fishcli.server.settings import ServerSettings
    from fishcli.webui.page import Form

_SAMPLING = ("temperature", "top_p", "repetition_penalty", "seed", "max_new_tokens")
_ROOT = "GRADIO_ROOT_PATH"
_OTHERS = ("voice", "language", "chunk_length", "iterative_prompt", "normalize")


@dataclass(frozen=True)
class Page:
    """The page: the values that its form begins with, and whether / leads to it.

    `shared` is the address of its public link; `public` is the path or the address of the server behind a proxy.
    """

    form: Form
    at_root: bool = False
    shared: str | None = None
    public: str = ""

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

        sampling = self.form.sampling.over(engine.sampling)
        form = replace(self.form, sampling=sampling, sample_rate=engine.sample_rate)
        mount(app, form, at_root=self.at_root, public=self.public)


def page(ctx: typer.Context, at_root: bool = False) -> Page:
    """Return the page, whose form has the values of the settings. Raises FishError where its packages are missing."""
    if importlib.util.find_spec("gradio") is None:
        raise FishError("The web page needs further packages; run `pip install 'fishcli[webui]'`.")
    from fishcli.request import SamplingParams
    from fishcli.webui.page import Form

    settings = ctx.default_map or {}
    sampling = SamplingParams(**{name: settings[name] for name in _SAMPLING if name in settings})
    form = Form(sampling, **{name: settings[name] for name in _OTHERS if name in settings})
    return Page(form, at_root, public=_public())


def _public() -> str:
    """Return the path or the address of the server behind a proxy, as Gradio's variable gives it."""
    given = os.environ.get(_ROOT, "")
    if given and not re.fullmatch(r"(https?://[\w.:\[\]-]+)?(/[\w./~-]*)?", given, re.ASCII):
        raise SettingError(f"{_ROOT} must be a path, such as /speech, or an address, not {given!r:.80}.")
    return given
