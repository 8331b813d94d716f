"""Fuzz audio files: an InputError, or finite samples within the limit; never another error or a crash.

    pip install atheris && python tests/fuzz_audio.py -runs=1000000

Further arguments are libFuzzer's: a folder to keep the corpus in, `-max_total_time=300`, ... The decoders'
own words about damaged MP3 files on stderr are not ours: `-close_fd_mask=2` hides them.
"""

import io
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np
import soundfile

with atheris.instrument_imports(include=["fishcli"]):
    from fishcli import audio
    from fishcli.errors import InputError

SECONDS = 5.0
LAST = Path(tempfile.gettempdir()) / "fuzz_audio.last"  # what to look at after a crash


def make_seeds() -> list[bytes]:
    """Return an empty file, and a short one of every format, mono and stereo."""
    kinds = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("WAVEX", "PCM_24")]
    kinds += [("RF64", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT")]
    kinds += [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
    files = [b""]
    for format, subtype in kinds:
        for channels in (1,) if subtype == "GSM610" else (1, 2):
            sound = 0.3 * np.sin(np.arange(800 * channels) / 7).reshape(800, channels)
            file = io.BytesIO()
            soundfile.write(file, sound, 8_000, subtype, format=format)
            files.append(file.getvalue())
    return files


SEEDS = make_seeds()


def mutated(source: atheris.FuzzedDataProvider) -> bytes:
    """Apply the changes in the fuzzer's bytes to a seed: the fuzzer has no coverage of the decoders."""
    data = bytearray(SEEDS[source.ConsumeIntInRange(0, len(SEEDS) - 1)])
    near_start = source.ConsumeBool()  # where the headers are
    while data and source.remaining_bytes() > 4:
        place = source.ConsumeIntInRange(0, min(len(data) - 1, 127) if near_start else len(data) - 1)
        new = source.ConsumeBytes(source.ConsumeIntInRange(1, 8))
        what = source.ConsumeIntInRange(0, 9)
        if what == 0:
            del data[place:]
        elif what == 1:
            data[place:place] = new
        elif what == 2:
            del data[place : place + len(new)]
        else:
            data[place : place + len(new)] = new
    return bytes(data) + source.ConsumeBytes(source.remaining_bytes())


def check(fuzzed: bytes) -> None:
    data = mutated(atheris.FuzzedDataProvider(fuzzed))
    LAST.write_bytes(data)
    try:
        samples = audio.read(data, 8_000, max_seconds=SECONDS)
    except InputError:
        return
    if samples.dtype != np.float32 or samples.ndim != 1 or not np.isfinite(samples).all():
        raise RuntimeError("these are not samples")
    if not 0 < len(samples) <= 8_000 * SECONDS + 8:
        raise RuntimeError(f"{len(samples)} samples were let through")


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
