"""Hearing: speech and silence, which message carried what, and the words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpu_workers import speech_detector
from gpu_workers.cascade import prepare
from gpu_workers.cascade.listening import Arrivals
from gpu_workers.cascade.moonshine import Moonshine
from gpu_workers.speech_detector import SAMPLE_RATE_HZ, Change, SpeechDetector
from tests.gpu_workers.speech import speak_at_16_khz


@pytest.fixture(scope="module")
def moonshine() -> Moonshine:
    return Moonshine()


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE_HZ), np.float32)


def feed(detector: SpeechDetector, samples: np.ndarray) -> list[tuple[Change, float]]:
    """Feed in pieces of 20 ms; return each change with when it came, in seconds."""
    changes = []
    for at in range(0, len(samples), 320):
        changes += [(change, detector.heard / SAMPLE_RATE_HZ) for change in detector.feed(samples[at : at + 320])]
    return changes


def test_speech_starts_and_pauses_where_it_does() -> None:
    words = speak_at_16_khz("I would like to book a haircut.")
    detector = SpeechDetector(speech_detector.load_model())
    changes = feed(detector, np.concatenate([silence(1), words, silence(1)]))
    assert [change for change, _ in changes] == [Change.STARTED, Change.PAUSED]
    (_, started), (_, paused) = changes
    ended = 1 + len(words) / SAMPLE_RATE_HZ
    assert 1 < started < 1.5
    assert ended - 0.4 < detector.speech_ended / SAMPLE_RATE_HZ < ended + 0.1
    assert paused - detector.speech_ended / SAMPLE_RATE_HZ == pytest.approx(0.224, abs=0.033)


def test_noise_is_not_speech() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 5 * SAMPLE_RATE_HZ).astype(np.float32)
    assert feed(SpeechDetector(speech_detector.load_model()), noise) == []


def test_speech_is_heard_after_a_long_silence() -> None:
    detector = SpeechDetector(speech_detector.load_model())
    changes = feed(detector, np.concatenate([silence(60), speak_at_16_khz("Are you still there?"), silence(1)]))
    assert [change for change, _ in changes] == [Change.STARTED, Change.PAUSED]


def test_two_detectors_on_one_model_do_not_disturb_each_other() -> None:
    model = speech_detector.load_model()
    words = np.concatenate([speak_at_16_khz("What are your opening hours?"), silence(0.5)])
    alone = feed(SpeechDetector(model), words)
    first, second = SpeechDetector(model), SpeechDetector(model)
    together = []
    for at in range(0, len(words), 320):
        piece = words[at : at + 320]
        together += [(change, first.heard / SAMPLE_RATE_HZ) for change in first.feed(piece)]
        second.feed(np.zeros_like(piece))
    assert together == alone


def test_a_position_leads_back_to_the_message_that_carried_it() -> None:
    arrivals = Arrivals()
    for message in range(4000):
        arrivals.add(end=(message + 1) * 640, message=message, arrived_at=message * 0.04)
    assert arrivals.find(3999 * 640) == (3998, pytest.approx(3998 * 0.04))
    assert arrivals.find(3999 * 640 + 1) == (3999, pytest.approx(3999 * 0.04))
    assert arrivals.find(10**9) == (3999, pytest.approx(3999 * 0.04))


@pytest.mark.parametrize(
    ("spoken", "words"),
    [
        ("What are your opening hours?", ["what", "are", "your", "opening", "hours"]),
        ("I would like to book a haircut for Tuesday.", ["book", "a", "haircut", "for", "tuesday"]),
        ("Tuesday at three thirty in the afternoon.", ["tuesday", "at", "thirty", "in", "the", "afternoon"]),
        ("Yes, please.", ["yes", "please"]),
    ],
)
def test_words_are_understood(moonshine: Moonshine, spoken: str, words: list[str]) -> None:
    heard = moonshine.transcribe(speak_at_16_khz(spoken)).lower()
    assert all(word in heard for word in words), heard


def test_silence_and_a_sliver_of_sound_are_no_words(moonshine: Moonshine) -> None:
    assert len(moonshine.transcribe(silence(0.01)).split()) <= 1


def test_damaged_models_are_named_with_what_to_do(tmp_path: Path) -> None:
    for name in (prepare.ENCODER, prepare.DECODER, prepare.TOKENS):
        (tmp_path / name).write_bytes(b"half a file")
    with pytest.raises(RuntimeError, match=f"{tmp_path} is damaged: delete it"):
        Moonshine(tmp_path)


def test_a_transcription_ends_even_where_the_model_would_repeat_itself(moonshine: Moonshine) -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 4 * SAMPLE_RATE_HZ).astype(np.float32)
    assert len(moonshine.transcribe(noise).split()) <= 34
