"""One file of both directions: what is where, in time and on which side."""

from __future__ import annotations

import numpy as np
import pytest
import sphn
from numpy.typing import NDArray

from content.recordings import AGENT, CALLER, Entry
from gpu_workers.protocol import SAMPLE_RATE_HZ
from voice.muxing import AHEAD_SECONDS, Muxed, NothingRecorded, mux

FRAME = 960
FRAME_MS = 40


def tone(seconds: float, hz: float = 440.0) -> NDArray[np.float32]:
    at = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.4 * np.sin(2 * np.pi * hz * at)).astype(np.float32)


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


def stream(direction: int, sound: NDArray[np.float32], *, begins_ms: int, pace: float = 1.0) -> list[Entry]:
    """Return a stream of messages of one frame each, sent as they are spoken, `pace` times faster."""
    writer, entries = sphn.OpusStreamWriter(SAMPLE_RATE_HZ), []
    for number, at in enumerate(range(0, len(sound) - FRAME + 1, FRAME)):
        if page := writer.append_pcm(sound[at : at + FRAME]):
            # A microphone's frame is sent when it is over, an agent's when it begins.
            spoken_ms = (number + (direction == CALLER)) * FRAME_MS / pace
            entries.append(Entry(direction, begins_ms + round(spoken_ms), page))
    return entries


def in_order(*streams: list[Entry]) -> list[Entry]:
    return sorted((entry for entries in streams for entry in entries), key=lambda entry: entry.at_ms)


def heard(muxed: Muxed) -> NDArray[np.float32]:
    """Return what a player plays, at 24 kHz: (2, samples)."""
    sound, rate = sphn.read_opus_bytes(muxed.ogg_opus)
    assert rate == 48_000 and sound.shape[0] == 2
    return sound[:, ::2]


def loud_seconds(sound: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return (begin, end) of each stretch with sound, in seconds; pauses of less than 0.1 s are none."""
    step = SAMPLE_RATE_HZ // 100
    loud = np.flatnonzero(np.abs(sound[: len(sound) // step * step]).reshape(-1, step).max(axis=1) > 0.05)
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > 10) + 1) if len(loud) else []
    return [(each[0] / 100, (each[-1] + 1) / 100) for each in stretches]


def assert_near(stretches: list[tuple[float, float]], expected: list[tuple[float, float]]) -> None:
    assert len(stretches) == len(expected), stretches
    assert np.allclose(np.array(stretches), np.array(expected), atol=0.09), stretches


def test_both_directions_lie_on_one_timeline_each_on_its_side() -> None:
    caller = stream(CALLER, np.concatenate([silence(2), tone(1, 300), silence(3)]), begins_ms=1000)
    agent = [
        *stream(AGENT, tone(1, 800), begins_ms=1500),
        *stream(AGENT, tone(0.8, 800), begins_ms=5000),
    ]
    muxed = mux(in_order(caller, agent))
    left, right = heard(muxed)
    assert muxed.begins_at_ms == pytest.approx(1000, abs=50) and not muxed.problem
    assert muxed.duration_ms == pytest.approx(6000, abs=100)
    assert_near(loud_seconds(left), [(2.0, 3.0)])
    assert_near(loud_seconds(right), [(0.5, 1.5), (4.0, 4.8)])
    spectrum = np.abs(np.fft.rfft(left[round(2.2 * SAMPLE_RATE_HZ) : round(2.7 * SAMPLE_RATE_HZ)]))
    assert np.argmax(spectrum) * 2 == pytest.approx(300, abs=4)


def test_a_network_that_held_the_caller_up_moves_nothing() -> None:
    sound = np.concatenate([silence(1), tone(0.5), silence(1.5), tone(0.5), silence(1), tone(0.5), silence(1)])
    held = [
        Entry(CALLER, max(entry.at_ms, 4600) if 3000 < entry.at_ms < 4600 else entry.at_ms, entry.payload)
        for entry in stream(CALLER, sound, begins_ms=0)
    ]
    left, _ = heard(mux(held))
    assert_near(loud_seconds(left), [(1.0, 1.5), (3.0, 3.5), (4.5, 5.0)])


def test_what_was_said_before_the_agent_could_hear_it_was_said_before_it() -> None:
    sound = np.concatenate([tone(0.5), silence(3.5)])
    held = [Entry(CALLER, max(entry.at_ms, 3000), entry.payload) for entry in stream(CALLER, sound, begins_ms=500)]
    muxed = mux(held)
    assert muxed.begins_at_ms == pytest.approx(500, abs=60)
    assert_near(loud_seconds(heard(muxed)[0]), [(0.0, 0.5)])


def test_a_caller_who_was_away_leaves_a_gap() -> None:
    before = stream(CALLER, tone(1), begins_ms=0)
    after = stream(CALLER, tone(1), begins_ms=9000)  # a stream of its own
    left, _ = heard(mux(in_order(before, after)))
    assert_near(loud_seconds(left), [(0.0, 1.0), (9.0, 10.0)])


def test_an_agent_who_sends_ahead_is_heard_as_it_is_played() -> None:
    _, right = heard(mux(stream(AGENT, tone(2), begins_ms=0, pace=4.0)))
    assert_near(loud_seconds(right), [(0.0, 2.0)])


def test_what_cannot_be_decoded_is_left_out_and_said() -> None:
    good, later = stream(AGENT, tone(1), begins_ms=0), stream(AGENT, tone(1), begins_ms=3000)
    broken = [Entry(AGENT, 1500, b"\xff" * 300), Entry(AGENT, 1540, b""), Entry(AGENT, 1600, b"OggS")]
    headless = stream(CALLER, tone(2), begins_ms=0)[5:]
    muxed = mux(in_order(good, broken, later, headless))
    left, right = heard(muxed)
    assert muxed.problem
    assert loud_seconds(left) == []
    assert_near(loud_seconds(right), [(0.0, 1.0), (3.0, 4.0)])


def test_more_sound_than_time_is_not_believed() -> None:
    flood = stream(CALLER, silence(AHEAD_SECONDS * 3), begins_ms=0, pace=1000.0)
    muxed = mux(flood)
    assert muxed.problem and muxed.duration_ms < (AHEAD_SECONDS + 5) * 1000


def test_silence_alone_can_be_played_and_nothing_at_all_cannot() -> None:
    assert mux(stream(CALLER, silence(1), begins_ms=0)).duration_ms > 900
    with pytest.raises(NothingRecorded):
        mux([])
    with pytest.raises(NothingRecorded):
        mux([Entry(CALLER, 0, b"no sound")])
