"""The page as Gradio builds it: the form. The voice, the sound and the history are elements of static/."""

from __future__ import annotations

import html
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fishcli
from fishcli.request import SamplingParams

if TYPE_CHECKING:
    import gradio

_LABELS = Path(__file__).parent / "labels.json"
_QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",  # which also turns the check for a newer version off
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_ROOT_PATH": "",  # Gradio would look for its page there; `mount` takes it
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_SPOKEN = {  # the languages of Fish Speech 1.5, in themselves
    "العربية": "ar",
    "Deutsch": "de",
    "English": "en",
    "Español": "es",
    "Français": "fr",
    "Italiano": "it",
    "日本語": "ja",
    "한국어": "ko",
    "Nederlands": "nl",
    "Polski": "pl",
    "Português": "pt",
    "Русский": "ru",
    "中文": "zh",
}
_HEAD = (
    '<script src="page/head.js?v={0}"></script>'
    '<script src="../static/player.js?v={0}" defer></script>'
    '<script type="module" src="page/page.js?v={0}"></script>'
    '<link rel="stylesheet" href="page/page.css?v={0}">'
    '<link rel="icon" type="image/svg+xml" href="../static/favicon.svg?v={0}">'
)
_SPEAK = "(...values) => {{ fish.speak(Object.fromEntries({0}.map((name, at) => [name, values[at]]))); return []; }}"
_STOP = "() => { fish.stop(); return []; }"


@dataclass(frozen=True)
class Form:
    """The values that the form begins with. `voice` is an id or a title; `language` is ISO 639-1, "": detected.

    The page asks for sound at `sample_rate` (Hz), best that of the model: to resample delays the first sound.
    """

    sampling: SamplingParams
    voice: str = ""
    language: str = ""
    chunk_length: int = 200
    iterative_prompt: bool = True
    normalize: bool = True
    sample_rate: int = 44_100


def import_gradio() -> Any:
    """Return the module gradio, which sends nothing home."""
    os.environ.update(_QUIET)
    import gradio

    return gradio


def labels() -> dict[str, dict[str, str]]:
    """Return the labels of the page by language, ISO 639-1, and key."""
    found: dict[str, dict[str, str]] = json.loads(_LABELS.read_text(encoding="utf-8"))
    return found


def head() -> str:
    """Return the files of the page, for its head."""
    return _HEAD.format(fishcli.__version__)


def build(form: Form) -> tuple[gradio.Blocks, gradio.I18n]:
    """Return the page and its labels."""
    gr = import_gradio()
    label = gr.I18n(**labels())
    with gr.Blocks(title="fishcli", analytics_enabled=False, fill_width=True) as page:
        gr.HTML("<fish-bar></fish-bar>", padding=False, apply_default_css=False)
        with gr.Row():
            with gr.Column(min_width=360):
                text = gr.Textbox(
                    label=label("text"), placeholder=label("text_hint"), lines=6, max_lines=20, elem_id="fish-text"
                )
                voice = f'<fish-voice-choice voice="{html.escape(form.voice)}"></fish-voice-choice>'
                gr.HTML(voice, padding=False, apply_default_css=False)
                with gr.Row():
                    speak = gr.Button(label("speak"), variant="primary", elem_id="fish-speak")
                    stop = gr.Button(label("stop"), elem_id="fish-stop")
                with gr.Accordion(label("sampling"), open=False):
                    controls = {"text": text, **_controls(gr, label, form)}
            with gr.Column(min_width=360):
                output = f'<fish-output rate="{form.sample_rate}"></fish-output>'
                gr.HTML(output, padding=False, apply_default_css=False)
        speak.click(None, list(controls.values()), None, js=_SPEAK.format(json.dumps(list(controls))))
        stop.click(None, None, None, js=_STOP)
    return page, label


def _controls(gr: Any, label: Any, form: Form) -> dict[str, Any]:
    """Return the further fields of a request by name, with ranges in which they make sense."""

    def slider(name: str, low: float, high: float, value: float | None, step: float) -> Any:
        value = low if value is None else value
        return gr.Slider(min(low, value), max(high, value), value, step=step, label=label(name))

    languages = [(label("automatic"), ""), *_SPOKEN.items()]
    if form.language not in {code for _, code in languages}:
        languages.append((form.language, form.language))
    sampling = form.sampling
    seed = "" if sampling.seed is None else str(sampling.seed)
    return {
        "language": gr.Dropdown(languages, value=form.language, label=label("language"), filterable=False),
        "seed": gr.Textbox(seed, label=label("seed"), placeholder=label("seed_hint"), max_lines=1, max_length=20),
        "temperature": slider("temperature", 0, 1.5, sampling.temperature, 0.01),
        "top_p": slider("top_p", 0.1, 1, sampling.top_p, 0.01),
        "repetition_penalty": slider("repetition_penalty", 0.9, 2, sampling.repetition_penalty, 0.01),
        "max_new_tokens": slider("max_new_tokens", 0, 2048, sampling.max_new_tokens, 8),
        "chunk_length": slider("chunk_length", 100, 1000, form.chunk_length, 10),
        "speed": slider("speed", 0.5, 2, 1, 0.05),
        "volume": slider("volume", -20, 20, 0, 1),
        "normalize": gr.Checkbox(form.normalize, label=label("normalize")),
        "condition_on_previous_chunks": gr.Checkbox(form.iterative_prompt, label=label("iterative_prompt")),
    }
