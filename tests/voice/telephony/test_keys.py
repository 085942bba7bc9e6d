"""Keys however they come: as tones among the sound, by SIP INFO, or twice; and never of speech."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from gpu_workers.protocol import SAMPLE_RATE_HZ
from tests.gpu_workers.speech import speak
from voice.telephony.g711 import FRAME_SAMPLES, PCMA, PCMU, RATE_HZ, Samples
from voice.telephony.sip.keys import DIGITS, PLAIN, RELAY, Keypad, Way, read_info
from voice.telephony.tones import HIGH_HZ, KEYS, LOW_HZ, Tones

SPEECH = (
    "I would like to book a haircut for next Thursday at three in the afternoon, please.",
    "My number is four one five, five five five, zero one two three. Ooh, eee, mmm, well, you know.",
    "Who are you? We were away a year ago. Zoom room, blue moon, noon soon. Seeing is believing.",
)


def tone(key: str, ms: float, *, twist_db: float = 0.0, detuned: float = 0.0, level: float = 0.1) -> Samples:
    low = next(number for number, keys in enumerate(KEYS) if key in keys)
    high = KEYS[low].index(key)
    at = np.arange(int(ms * RATE_HZ / 1000)) / RATE_HZ * 2 * np.pi * (1 + detuned)
    return (level * (np.sin(LOW_HZ[low] * at) + 10 ** (twist_db / 20) * np.sin(HIGH_HZ[high] * at))).astype(np.float32)


def pause(ms: float) -> Samples:
    return np.zeros(int(ms * RATE_HZ / 1000), np.float32)


def pressed(*sounds: Samples, without: tuple[int, ...] = ()) -> str:
    """Return the keys found in sounds one after another, that a network brought without some of its packets."""
    tones, line = Tones(), np.concatenate([*sounds, pause(100)])
    found = ""
    for number, at in enumerate(range(0, len(line) - FRAME_SAMPLES + 1, FRAME_SAMPLES)):
        if number not in without:
            found += tones.hear(at, line[at : at + FRAME_SAMPLES])
    return found


@pytest.mark.parametrize("twist_db", [-6, 0, 4])
@pytest.mark.parametrize("detuned", [-0.015, 0.0, 0.015])
@pytest.mark.parametrize("begins_ms", [40, 43, 47.5, 51])
def test_every_key_of_40_ms_is_heard_once(twist_db: float, detuned: float, begins_ms: float) -> None:
    dice = np.random.default_rng(3)
    sounds = [pause(begins_ms)]
    for digit in DIGITS:
        sounds += [tone(digit, 40, twist_db=twist_db, detuned=detuned), pause(40)]
    line = np.concatenate(sounds)
    noisy = (line + 0.01 * dice.standard_normal(len(line))).astype(np.float32)
    for sound in (line, noisy):
        for law in (PCMU, PCMA):
            assert pressed(law.decode(law.encode(sound))) == DIGITS


@pytest.mark.parametrize(
    "sound",
    [
        tone("5", 22),
        tone("5", 500, detuned=0.035),
        tone("5", 500, twist_db=-15),
        tone("5", 500, twist_db=12),
        tone("5", 500, level=0.001),
        tone("5", 500) + tone("9", 500),
        (tone("5", 500) + 0.2 * np.random.default_rng(1).standard_normal(4000)).astype(np.float32),
    ],
    ids=["short", "detuned", "low", "high", "faint", "two", "noise"],
)
def test_what_is_no_key_is_not_taken_for_one(sound: Samples) -> None:
    assert pressed(pause(40), sound) == ""


def test_a_long_key_is_one_press_and_the_same_key_again_another() -> None:
    assert pressed(tone("7", 900), pause(40), tone("7", 60), pause(60), tone("7", 60), tone("8", 60)) == "7778"


@pytest.mark.parametrize("missing", range(5))
def test_a_lost_packet_does_not_make_two_presses_of_one(missing: int) -> None:
    assert pressed(pause(60), tone("3", 140), pause(60), tone("4", 100), without=(4 + missing,)) == "34"


@pytest.mark.parametrize("words", SPEECH)
@pytest.mark.parametrize("pitch", [0.7, 0.85, 1.0, 1.2, 1.5])
def test_speech_presses_no_keys(words: str, pitch: float) -> None:
    sound = soxr.resample(speak(words), SAMPLE_RATE_HZ * pitch, RATE_HZ).astype(np.float32)
    sound *= 0.6 / np.abs(sound).max()
    assert pressed(PCMU.decode(PCMU.encode(sound))) == ""


@pytest.mark.parametrize(
    ("kind", "text", "digit"),
    [
        (RELAY, "Signal=5\r\nDuration=160\r\n", "5"),
        (RELAY, "signal = #\r\nduration = 160", "#"),
        (RELAY, "Duration=100\nSignal=10\n", "*"),
        (RELAY, "Signal=d", "D"),
        (RELAY, "Signal=16", None),
        (RELAY, "Duration=160", None),
        (RELAY, "5", None),
        (PLAIN, " 9\r\n", "9"),
        (PLAIN, "11", "#"),
        (PLAIN, "99999999999999999999", None),
        (PLAIN, "00101", None),
        (RELAY, "Signal=" + "1" * 17, None),
        (RELAY, "\r\n" * 8_000 + "Signal=5", None),  # which took a second to look through
        (PLAIN, "", None),
        (PLAIN, "²", None),
    ],
)
def test_keys_are_read_of_both_bodies_of_info(kind: str, text: str, digit: str | None) -> None:
    assert read_info(kind, text) == digit


def test_a_press_that_comes_by_two_ways_counts_once_whichever_is_first() -> None:
    keypad = Keypad()
    presses = [
        ("4", Way.TONE, 0.0, True),
        ("5", Way.TONE, 0.2, True),
        ("4", Way.INFO, 0.25, False),
        ("5", Way.INFO, 0.4, False),
        ("6", Way.TONE, 0.5, False),  # INFO came: tones are not listened to any more
        ("6", Way.INFO, 0.6, True),
        ("6", Way.EVENT, 0.7, False),
        ("6", Way.EVENT, 0.9, True),
        ("6", Way.EVENT, 1.0, True),
        ("6", Way.INFO, 5.0, False),
    ]
    assert [keypad.takes(digit, way, at) for digit, way, at, _ in presses] == [taken for *_, taken in presses]
