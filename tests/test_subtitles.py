"""Subtitles: cues, times, and the three formats."""

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from fishcli.jobs import cues, subtitles
from fishcli.jobs.line import SpokenChunk
from fishcli.jobs.subtitles import Spoken

LONG = (
    "The quick brown fox jumps over the lazy dog, and then it runs away into the deep dark forest. It was never seen."
)


def test_a_cue_ends_after_a_sentence_or_a_clause():
    assert list(cues.cut(LONG)) == [
        ("The quick brown fox", "jumps over the lazy dog,"),
        ("and then it runs away into the deep", "dark forest. It was never seen."),
    ]


def test_wide_characters_have_two_columns():
    found = list(
        cues.cut("我们在重庆吃火锅，天气很热，大家都出了很多汗。后来我们去了江边散步，看到了很多灯光，非常漂亮。")
    )
    assert found == [
        ("我们在重庆吃火锅，", "天气很热，大家都出了很多汗。"),
        ("后来我们去了江边散步，", "看到了很多灯光，非常漂亮。"),
    ]


def test_short_text_is_one_line():
    assert list(cues.cut("  Hi,\n there. ")) == [("Hi, there.",)]


@settings(max_examples=100, deadline=None)
@given(
    st.text(
        st.one_of(st.sampled_from(" .,;!?—abcdefgh'”字，。あ\u0301\u200d👩"), st.characters(codec="utf-8")),
        max_size=400,
    )
)
def test_cues_hold_all_the_text_and_never_more_than_fits(text):
    found = list(cues.cut(text))
    assert re.sub(r"\s", "", "".join(line for lines in found for line in lines)) == re.sub(r"\s", "", text)
    for lines in found:
        assert 1 <= len(lines) <= 2
        assert all(line and cues.width(line) <= cues.COLUMNS for line in lines)


def chunks(lengths):
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    return [SpokenChunk(LONG[start % 50 :], start, frames, 0) for start, frames in zip(starts, lengths, strict=True)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=20))
def test_times_rise_and_those_of_chunks_are_exact(lengths):
    spoken = subtitles.timed(chunks(lengths), 2048 / 44_100)
    found = json.loads(subtitles.as_json(spoken))["chunks"]
    last = 0.0
    for start, frames, chunk in zip([sum(lengths[:at]) for at in range(len(lengths))], lengths, found, strict=True):
        assert abs(chunk["start"] - start * 2048 / 44_100) < 0.001
        assert abs(chunk["end"] - (start + frames) * 2048 / 44_100) < 0.001
        times = [time for cue in chunk["cues"] for time in (cue["start"], cue["end"])]
        assert times == sorted(times)
        assert all(time >= last - 1e-9 for time in times)
        last = max([last, *times])
        words = [time for word in chunk["words"] for time in (word["start"], word["end"])]
        assert words == sorted(words)
        if frames > 20:
            assert times[0] == chunk["start"]
            assert times[-1] == chunk["end"]
            assert " ".join(word["text"] for word in chunk["words"]) == chunk["text"].strip()


def test_the_formats():
    spoken = [Spoken("Hello <there> & --> you.", 0.5, 1.25), Spoken(LONG, 3661.0, 3670.0)]
    assert subtitles.srt(spoken[:1]) == "1\n00:00:00,500 --> 00:00:01,250\nHello <there> & -> you.\n\n"
    vtt = subtitles.vtt(spoken)
    assert vtt.startswith(
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\nHello &lt;there&gt; &amp; -&gt; you.\n\n01:01:01.000 --> "
    )
    first, second = json.loads(subtitles.as_json(spoken))["chunks"]
    assert first["cues"][0]["estimated"] is False
    assert [cue["estimated"] for cue in second["cues"]] == [True] * 2
    assert all(word["estimated"] for word in second["words"])


def test_words_of_a_script_without_spaces_are_characters():
    found = json.loads(subtitles.as_json([Spoken("我在Berlin，好。", 0, 1)]))["chunks"][0]["words"]
    assert [word["text"] for word in found] == ["我", "在", "Berlin，", "好。"]


def test_files_lie_beside_the_sound(tmp_path):
    paths = subtitles.write(tmp_path / "01 A.b.flac", [Spoken("Hi.", 0, 1)], ("srt", "json", "srt"))
    assert [path.name for path in paths] == ["01 A.b.srt", "01 A.b.json"]
    assert paths[0].read_text() == "1\n00:00:00,000 --> 00:00:01,000\nHi.\n\n"
