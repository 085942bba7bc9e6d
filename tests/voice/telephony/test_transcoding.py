"""A telephone's sound to the engine's and back: nothing audible is lost, and hardly any time."""

from __future__ import annotations

import numpy as np
import pytest
import sphn

from gpu_workers.protocol import SAMPLE_RATE_HZ
from voice.telephony.g711 import FRAME_SAMPLES, LAWS, PCMU, RATE_HZ, Law, Samples
from voice.telephony.transcoding import FromEngine, ToEngine

MOST_ADDED_MS = 20


def burst(rate_hz: int, *, tone_hz: float = 1000) -> Samples:
    """Two seconds with a short tone in the middle, whose place can be measured."""
    at = np.arange(2 * rate_hz) / rate_hz
    return (0.8 * np.exp(-(((at - 1) / 0.003) ** 2)) * np.sin(2 * np.pi * tone_hz * at)).astype(np.float32)


def place_of_burst(sound: Samples, rate_hz: int) -> float:
    return float((np.arange(len(sound)) * sound**2).sum() / (sound**2).sum() / rate_hz)


def frames_of(sound: Samples) -> list[Samples]:
    return [sound[at : at + FRAME_SAMPLES] for at in range(0, len(sound), FRAME_SAMPLES)]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_code_of_a_law_comes_back_as_itself(law: Law) -> None:
    codes = bytes(range(256))
    again = law.encode(law.decode(codes))
    # Mu-law has two zeros.
    assert [code for code in codes if again[code] != code] == ([0x7F] if law is PCMU else [])


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_speech_survives_a_law(law: Law) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    error = law.decode(law.encode(tone)) - tone
    assert 10 * np.log10((tone**2).mean() / (error**2).mean()) > 35
    assert np.abs(law.decode(law.silence)).max() < 0.001 and len(law.silence) == FRAME_SAMPLES


def test_known_codes_of_both_laws_mean_what_the_standard_says() -> None:
    assert (LAWS["PCMU"].decode(b"\xff\x00\x80") * 32768).tolist() == [0, -32124, 32124]
    assert (LAWS["PCMA"].decode(b"\x55\xd5\x2a") * 32768).tolist() == [-8, 8, -32256]


@pytest.mark.parametrize("tone_hz", [400, 1000, 3000])
def test_each_frame_becomes_a_page_at_once_and_little_late(tone_hz: float) -> None:
    to_engine, reader = ToEngine(), sphn.OpusStreamReader(SAMPLE_RATE_HZ)
    heard = [reader.append_bytes(to_engine.encode(frame)) for frame in frames_of(burst(RATE_HZ, tone_hz=tone_hz))]
    assert {len(piece) for piece in heard} == {FRAME_SAMPLES * 3}
    sound = np.concatenate(heard)
    assert 0 < (place_of_burst(sound, SAMPLE_RATE_HZ) - 1) * 1000 < MOST_ADDED_MS
    assert 0.6 < np.abs(sound).max() < 1


@pytest.mark.parametrize("tone_hz", [400, 1000, 3000])
def test_the_agents_sound_becomes_frames_little_late(tone_hz: float) -> None:
    from_engine, writer = FromEngine(), sphn.OpusStreamWriter(SAMPLE_RATE_HZ)
    sound = burst(SAMPLE_RATE_HZ, tone_hz=tone_hz)
    frames = [
        frame
        for at in range(0, len(sound), 960)
        for frame in from_engine.decode(bytes(writer.append_pcm(sound[at : at + 960])))
    ]
    assert {len(frame) for frame in frames} == {FRAME_SAMPLES}
    heard = np.concatenate(frames)
    assert 0 < (place_of_burst(heard, RATE_HZ) - 1) * 1000 < MOST_ADDED_MS
    assert 0.6 < np.abs(heard).max() < 1


def test_what_a_telephone_cannot_carry_does_not_fold_into_speech() -> None:
    from_engine, writer = FromEngine(), sphn.OpusStreamWriter(SAMPLE_RATE_HZ)
    hiss = (0.5 * np.sin(2 * np.pi * 6000 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ)).astype(np.float32)
    frames = [
        frame
        for at in range(0, len(hiss), 960)
        for frame in from_engine.decode(bytes(writer.append_pcm(hiss[at : at + 960])))
    ]
    assert np.sqrt((np.concatenate(frames[5:]) ** 2).mean()) < 0.005


def test_what_is_no_ogg_opus_is_told_so() -> None:
    with pytest.raises(ValueError, match="was not Ogg Opus"):
        FromEngine().decode(b"OggS but no more than that" * 20)
