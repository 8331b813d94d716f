"""Numbers, dates and money are not only written out but heard: ten sentences, spoken and recognised."""

import numpy as np
import pytest

from fishcli import Request, Sampling, load
from fishcli.normalize import normalize

listening = pytest.importorskip("listening")

SENTENCES = [
    "On 3/4/2024 at 7:30 pm Dr. Smith paid $1,250.50 for 12 kg.",
    "The train leaves at 9:15 am.",
    "He paid $20 for 3 books.",
    "It was 25% of the price.",
    "The year 1999 was a good year.",
    "She is the 2nd of 4 children.",
    "There are 365 days in a year.",
    "The house is 12 km from here.",
    "My brother was born on May 5, 1990.",
    "We have 1,500 letters and 6 people.",
]


def test_the_expected_words_are_heard():
    """What is heard is read as words too, since the recogniser writes digits."""
    engine = load(dtype="float32")
    pairs = []
    for seed, sentence in enumerate(SENTENCES):
        words = normalize(sentence, "en")
        chunks = engine.speak(Request(words, sampling=Sampling(seed=seed)))
        samples = np.concatenate([chunk.samples for chunk in chunks])
        pairs.append((words, normalize(listening.transcribe(samples, engine.sample_rate), "en")))
    assert listening.word_error_rate(pairs) <= 0.4, pairs
